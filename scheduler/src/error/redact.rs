//! Takes out of a text what a store's answer or an address may give away. Texts of errors go into
//! logs and records, which many may read.

/// Replaces answers in XML by their code and message, as the rest of them can hold the names of
/// keys, signatures and tokens; and takes names and passwords out of addresses.
pub(crate) fn redact(text: &str) -> String {
    without_user_info(&without_xml(text))
}

/// `<Error><Code>c</Code><Message>m</Message>…</Error>` becomes `c: m`.
fn without_xml(text: &str) -> String {
    let begins = ["<?xml", "<Error"].map(|begin| text.find(begin));
    let Some(begin) = begins.into_iter().flatten().min() else {
        return text.to_owned();
    };
    let (before, xml) = text.split_at(begin);
    // What was cut off has no end.
    let after = match xml.contains("</Error") {
        true => xml.rsplit_once('>').map_or("", |(_, after)| after),
        false => "",
    };
    let told: Vec<&str> = ["Code", "Message"]
        .iter()
        .filter_map(|name| element(xml, name))
        .collect();
    let told = match told.is_empty() {
        true => "an answer in XML".to_owned(),
        false => told.join(": "),
    };
    format!("{before}{told}{after}")
}

/// The text of the first element of a name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains('<')).then_some(text)
}

/// `http://user:password@host/` becomes `http://***@host/`.
fn without_user_info(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        kept.push_str(before);
        kept.push_str("://");
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | ')');
        let end = after.find(ends).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            None => kept.push_str(authority),
            Some((_, host)) => {
                kept.push_str("***@");
                kept.push_str(host);
            }
        }
        rest = tail;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_their_code_and_message() {
        let expired = "Server returned non-2xx status code: 400 Bad Request: \
            <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ExpiredToken</Code>\
            <Message>The provided token has expired.</Message><Token-0>FwoGZXIvYXdzEBo</Token-0>\
            <RequestId>4442587FB7D0A2F9</RequestId></Error>";
        assert_eq!(
            redact(expired),
            "Server returned non-2xx status code: 400 Bad Request: \
             ExpiredToken: The provided token has expired."
        );
        let mismatch = "403: <Error><Code>SignatureDoesNotMatch</Code><Message>Check it.</Message>\
            <AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><StringToSign>AWS4</StringToSign>\
            <CanonicalRequest>x-amz-security-token:FwoG</CanonicalRequest></Error> (again)";
        assert_eq!(
            redact(mismatch),
            "403: SignatureDoesNotMatch: Check it. (again)"
        );
        // Cut off, or of another form.
        let cut = "403: <Error><Code>Denied</Code><AWSAccessKeyId>AKIDEXA";
        assert_eq!(redact(cut), "403: Denied");
        let other = "<ErrorResponse><Secret>x</Secret></ErrorResponse>";
        assert_eq!(redact(other), "an answer in XML");
        let nested = "<Error><Message><Token>x</Token></Message></Error>";
        assert_eq!(redact(nested), "an answer in XML");
    }

    #[test]
    fn addresses_keep_their_host() {
        for (text, expected) in [
            ("at http://me:pass@host:9/x?y", "at http://***@host:9/x?y"),
            (
                "(https://a@b) and s3://c@d",
                "(https://***@b) and s3://***@d",
            ),
            (
                "http://host/@me 'http://host/x@y'",
                "http://host/@me 'http://host/x@y'",
            ),
            (
                "nobody@example.org a < b > c",
                "nobody@example.org a < b > c",
            ),
            ("", ""),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
