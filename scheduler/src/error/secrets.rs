//! What a store answers can hold the name of a key, a session's token, and the signature of a
//! request with all that was signed. Nothing of that goes into records, answers or logs.

/// What stands in its place.
const LEFT_OUT: char = '…';
/// Elements of S3's error documents. In lower case, as all names here.
const ELEMENTS: [&str; 8] = [
    "awsaccesskeyid",
    "canonicalrequest",
    "canonicalrequestbytes",
    "signatureprovided",
    "stringtosign",
    "stringtosignbytes",
    "token",
    "token-0",
];
/// Parts of signed addresses and of the `Authorization` header.
const PARAMETERS: [&str; 5] = [
    "credential=",
    "security-token=",
    "security-token:",
    "signature=",
    "awsaccesskeyid=",
];
/// How the names of AWS's keys begin, and how long they are.
const KEY_PREFIXES: [&str; 2] = ["akia", "asia"];
const KEY_LENGTH: usize = 20;

/// A text without what must not be told.
pub(crate) fn scrub(text: &str) -> String {
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
    let element = |name: &str| {
        let start = rest.find(&format!("<{name}>"))? + name.len() + 2;
        let length = rest[start..].find(&format!("</{name}>"));
        Some((start, length.map_or(rest.len(), |length| start + length)))
    };
    let parameter = |name: &str| {
        let start = rest.find(name)? + name.len();
        let value = rest[start..].trim_start_matches(' ');
        let start = rest.len() - value.len();
        let length = value.find(|c: char| c.is_whitespace() || "&\"'<>(),;".contains(c));
        Some((start, length.map_or(rest.len(), |length| start + length)))
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
    let elements = ELEMENTS.iter().filter_map(|name| element(name));
    let parameters = PARAMETERS.iter().filter_map(|name| parameter(name));
    let keys = KEY_PREFIXES.iter().filter_map(|prefix| key(prefix));
    let first = elements.chain(parameters).chain(keys).min()?;
    Some((from + first.0, from + first.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_store_says_of_signatures_is_left_out() {
        for (said, told) in [
            (
                "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>team</AWSAccessKeyId>\
                 <StringToSign>AWS4-HMAC-SHA256\nx</StringToSign><SignatureProvided>ab\
                 </SignatureProvided><RequestId>1</RequestId>",
                "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>…</AWSAccessKeyId>\
                 <StringToSign>…</StringToSign><SignatureProvided>…\
                 </SignatureProvided><RequestId>1</RequestId>",
            ),
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
                "the key 'AKIA0123456789ABCDEF' does not exist",
                "the key '…' does not exist",
            ),
            // Cut off.
            ("<StringToSign>AWS4", "<StringToSign>…"),
            ("<AWSAccessKeyId>team</Oops> more", "<AWSAccessKeyId>…"),
            ("ÄÖ <token>ß</token> Ü", "ÄÖ <token>…</token> Ü"),
        ] {
            assert_eq!(scrub(said), told);
            assert_eq!(scrub(told), told);
        }
        for harmless in [
            "",
            "cannot read s3://asia-akia/x: 503 Slow Down",
            "asiaé0123456789abcdefgh",
        ] {
            assert_eq!(scrub(harmless), harmless);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(
            parts in prop::collection::vec("<stringtosign>|</StringToSign>|signature=|akia|é|[a-z&> ]{0,20}", 0..9)
        ) {
            let once = scrub(&parts.concat());
            prop_assert_eq!(scrub(&once), once);
        }

        #[test]
        fn the_key_is_never_told(before in "[ -~]{0,30}", key in "[A-Z0-9]{16}", after in "[ -~]{0,30}") {
            let text = format!("{before}<AWSAccessKeyId>{key}</AWSAccessKeyId>{after}");
            let hidden = !scrub(&text).contains(&key);
            prop_assert!(hidden || before.contains(&key) || after.contains(&key));
        }
    }
}
