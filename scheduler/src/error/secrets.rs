//! What a store answers can hold the name of a key, a session's token, and the signature of a
//! request with all that was signed. Nothing of that goes into records, answers or logs.

use std::cmp::Reverse;

/// What stands in its place.
const LEFT_OUT: char = '…';
/// Parts of signed addresses and of headers. In lower case.
const PARAMETERS: [&str; 6] = [
    "credential",
    "security-token",
    "session_token",
    "signature",
    "awsaccesskeyid",
    "bearer",
];
/// How the names of AWS's keys begin, and how long they are.
const KEY_PREFIXES: [&str; 2] = ["akia", "asia"];
const KEY_LENGTH: usize = 20;

/// A text without what must not be told: of answers in XML their code and message stay, of
/// addresses all but names, passwords and signatures.
pub fn scrub(text: &str) -> String {
    // A parameter's value may hold what ends a host, and a name may hold a parameter: each hides that
    // the other is there. So names are left out before and after.
    without_user_info(&without_parameters(&without_user_info(&without_xml(text))))
}

/// `<Error><Code>c</Code><Message>m</Message>…</Error>` becomes `c: m`.
fn without_xml(text: &str) -> String {
    let begins = ["<?xml", "<Error"].map(|begin| text.find(begin));
    let Some(begin) = begins.into_iter().flatten().min() else {
        return text.to_owned();
    };
    let (before, xml) = text.split_at(begin);
    let end = ["</Error>", "</ErrorResponse>"]
        .iter()
        .filter_map(|end| xml.rfind(end).map(|at| at + end.len()))
        .max();
    // What was cut off has no end.
    let (xml, after) = xml.split_at(end.unwrap_or(xml.len()));
    let told: Vec<&str> = ["Code", "Message"]
        .iter()
        .filter_map(|name| element(xml, name))
        .collect();
    let told = match told.is_empty() {
        true => "an answer in XML".to_owned(),
        false => told.join(": "),
    };
    format!("{before}{told}{}", without_xml(after))
}

/// The text of the first element of a name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains('<')).then_some(text)
}

/// `http://user:password@host/` becomes `http://…@host/`.
fn without_user_info(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        kept.push_str(before);
        kept.push_str("://");
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | ')');
        let end = after.find(ends).unwrap_or(after.len());
        // What stands for a host may be the scheme of another address.
        rest = match after[..end].rfind('@') {
            None => after,
            Some(at) => {
                kept.push(LEFT_OUT);
                kept.push('@');
                &after[at + 1..]
            }
        };
    }
    kept.push_str(rest);
    kept
}

fn without_parameters(text: &str) -> String {
    // Positions are the same in both.
    let lower = text.to_ascii_lowercase();
    let mut scrubbed = String::with_capacity(text.len());
    let mut from = 0;
    while let Some((start, end)) = next_secret(&lower, from) {
        scrubbed.push_str(&text[from..start]);
        scrubbed.push(LEFT_OUT);
        from = end;
    }
    scrubbed.push_str(&text[from..]);
    scrubbed
}

/// The first secret from a position on: its start and its end.
fn next_secret(lower: &str, from: usize) -> Option<(usize, usize)> {
    let rest = &lower[from..];
    let parameter = |name: &str| {
        let mut found = rest.match_indices(name);
        found.find_map(|(start, _)| {
            let value = value_after(&rest[start + name.len()..], name == "bearer")?;
            let start = rest.len() - value.len();
            let length = value.find(|c: char| c.is_whitespace() || "&\"'<>(),;".contains(c));
            Some((start, length.map_or(rest.len(), |length| start + length)))
        })
    };
    let key = |prefix: &str| {
        let ends_word = |c: Option<char>| !c.is_some_and(|c| c.is_ascii_alphanumeric());
        let mut found = rest.match_indices(prefix).map(|(start, _)| start);
        found.find_map(|start| {
            let word = rest.get(start..start + KEY_LENGTH)?;
            let whole = word.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && ends_word(rest[..start].chars().next_back())
                && ends_word(rest[start + KEY_LENGTH..].chars().next());
            whole.then_some((start, start + KEY_LENGTH))
        })
    };
    let parameters = PARAMETERS.iter().filter_map(|name| parameter(name));
    let keys = KEY_PREFIXES.iter().filter_map(|prefix| key(prefix));
    // Of two that begin alike the longer one: a value may begin like a key.
    let longer_first = |(start, end): &(usize, usize)| (*start, Reverse(*end));
    let first = parameters.chain(keys).min_by_key(longer_first)?;
    Some((from + first.0, from + first.1))
}

/// What follows a name and `=`, `: ` or, in JSON, `": "`; the name of a scheme needs none of these.
fn value_after(rest: &str, is_scheme: bool) -> Option<&str> {
    let quotes = ['"', '\''];
    if is_scheme {
        let value = rest.trim_start_matches(' ');
        return (value.len() < rest.len()).then_some(value);
    }
    let rest = rest.trim_start_matches(quotes).trim_start_matches(' ');
    let value = rest.strip_prefix(['=', ':'])?;
    Some(value.trim_start_matches(' ').trim_start_matches(quotes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_keep_their_code_and_message() {
        let expired = "Server returned non-2xx status code: 400 Bad Request: \
            <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ExpiredToken</Code>\
            <Message>The provided token has expired.</Message><Token-0>FwoGZXIvYXdzEBo</Token-0>\
            <RequestId>4442587FB7D0A2F9</RequestId></Error>";
        let mismatch = "403: <Error><Code>SignatureDoesNotMatch</Code><Message>Check it.</Message>\
            <AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId><StringToSign>AWS4</StringToSign>\
            <CanonicalRequest>x-amz-security-token:FwoG</CanonicalRequest></Error> (again)\n  -> x";
        for (said, told) in [
            (
                expired,
                "Server returned non-2xx status code: 400 Bad Request: \
                 ExpiredToken: The provided token has expired.",
            ),
            (
                mismatch,
                "403: SignatureDoesNotMatch: Check it. (again)\n  -> x",
            ),
            // Cut off, or of another form.
            (
                "<Error></Error>, <Error><Key>x",
                "an answer in XML, an answer in XML",
            ),
            (
                "403: <Error><Code>Denied</Code><AWSAccessKeyId>AKIDEXA",
                "403: Denied",
            ),
            (
                "<ErrorResponse><Secret>x</Secret></ErrorResponse>",
                "an answer in XML",
            ),
            (
                "<Error><Message><Token>x</Token></Message></Error>",
                "an answer in XML",
            ),
        ] {
            assert_eq!(scrub(said), told);
            assert_eq!(scrub(told), told);
        }
    }

    #[test]
    fn addresses_keep_their_host() {
        for (said, told) in [
            ("at http://me:pass@host:9/x?y", "at http://…@host:9/x?y"),
            ("(https://a@b) and s3://c@d", "(https://…@b) and s3://…@d"),
            (
                "http://http://me:pass@host, http://a@http://b@c",
                "http://http://…@host, http://…@http://…@c",
            ),
            ("http://signature=/x&me@host", "http://…@host"),
            ("http://me:pw&signature=x@host/p", "http://…@host/p"),
            ("signature=AKIA0123456789ABCDEF/more", "signature=…"),
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
            assert_eq!(scrub(said), told);
            assert_eq!(scrub(told), told);
        }
    }

    #[test]
    fn signatures_are_left_out() {
        for (said, told) in [
            (
                "GET https://s3/x?X-Amz-Credential=team%2F2026&X-Amz-Signature=ab12&\
                 x-amz-security-token=abc%3D failed",
                "GET https://s3/x?X-Amz-Credential=…&X-Amz-Signature=…&\
                 x-amz-security-token=… failed",
            ),
            (
                "Authorization: AWS4-HMAC-SHA256 Credential=team/2026, SignedHeaders=host, \
                 Signature=ab",
                "Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=host, Signature=…",
            ),
            (
                "x-amz-security-token: abc\nhost:s3",
                "x-amz-security-token: …\nhost:s3",
            ),
            (
                "{\"x-amz-security-token\": \"abc\", \"authorization\": \"Bearer abc\"}",
                "{\"x-amz-security-token\": \"…\", \"authorization\": \"Bearer …\"}",
            ),
            (
                "the key 'AKIA0123456789ABCDEF' does not exist",
                "the key '…' does not exist",
            ),
        ] {
            assert_eq!(scrub(said), told);
            assert_eq!(scrub(told), told);
        }
        for harmless in [
            "",
            "cannot read s3://asia-akia/x: 503 Slow Down",
            "asiaé0123456789abcdefgh",
            "the signature does not match; no bearer",
        ] {
            assert_eq!(scrub(harmless), harmless);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(
            parts in prop::collection::vec(
                "<Error|<Code>|</Code>|</Error>|http://|@|signature=|akia|é|[a-z&> ]{0,20}",
                0..9,
            )
        ) {
            let once = scrub(&parts.concat());
            prop_assert_eq!(scrub(&once), once);
        }

        #[test]
        fn the_key_is_never_told(
            before in "[ -~]{0,30}",
            key in "[A-Z0-9]{16}",
            after in "[ -~]{0,30}",
        ) {
            let text = format!(
                "{before}<Error><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>{after}"
            );
            prop_assert!(!scrub(&text).contains(&key) || before.contains(&key) || after.contains(&key));
        }
    }
}
