//! The file of tokens. What is kept of a token is its SHA-256, and it is never logged.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Identity, Role};
use crate::access::Access;
use crate::error::{Error, Result};
use crate::service::Caller;

/// A larger file is not one of tokens.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// The tokens of a file, as they were when it was last whole.
#[derive(Debug)]
pub(in crate::api) struct TokenFile {
    path: PathBuf,
    tokens: RwLock<Arc<Tokens>>,
    /// The file as it was when it was read last, even if it could not be used.
    seen: Mutex<Option<Stamp>>,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// If it can't be read, others may read it, or a line is wrong.
    pub(in crate::api) fn open(path: &Path) -> Result<Self> {
        let (stamp, tokens) = read(path).map_err(|reason| Error::Setup {
            what: format!("the file of tokens '{}'", path.display()),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            tokens: RwLock::new(Arc::new(tokens)),
            seen: Mutex::new(Some(stamp)),
        })
    }

    /// Whose token it is.
    pub(super) fn find(&self, token: &str) -> Option<Identity> {
        let tokens = Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner));
        tokens.find(token).cloned()
    }

    /// Reads the file again if it has changed. While it can't be used, the tokens stay as they
    /// were: a slip of the pen locks nobody out.
    pub(super) fn refresh(&self) {
        let stamp = std::fs::metadata(&self.path).ok().map(|m| Stamp::of(&m));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == stamp {
            return;
        }
        let path = self.path.display();
        match read(&self.path) {
            Ok((stamp, tokens)) => {
                *seen = Some(stamp);
                tracing::info!(file = %path, tokens = tokens.0.len(), "read the tokens again");
                let mut current = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(tokens);
            }
            Err(reason) => {
                *seen = stamp;
                tracing::error!(file = %path, reason, "the tokens stay as they were");
            }
        }
    }
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<std::time::SystemTime>,
    /// Inode and time of the last change to it or its mode, where there are such things.
    inode: (u64, i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let inode = (0, 0, 0);
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }
}

#[derive(Debug)]
struct Tokens(Vec<Token>);

#[derive(Debug)]
struct Token {
    digest: [u8; 32],
    identity: Identity,
}

impl Tokens {
    /// Lines `name role token [prefix …]`; `#` begins a comment, empty lines are skipped. Errors
    /// name the line, never what is in it but name and role.
    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut names = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let token =
                parse_line(line).map_err(|reason| format!("line {}: {reason}", number + 1))?;
            let name = token.identity.caller.name.clone();
            if let Some(name) = name
                && !names.insert(name.clone())
            {
                return Err(format!("line {}: '{name}' is named twice", number + 1));
            }
            if tokens.iter().any(|other| other.digest == token.digest) {
                return Err(format!("line {}: the token is another's", number + 1));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err("it holds no token; a line is: name role token".to_owned());
        }
        Ok(Self(tokens))
    }

    /// Compares with every token, so that the time it takes says nothing.
    fn find(&self, token: &str) -> Option<&Identity> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for known in &self.0 {
            if bool::from(known.digest.ct_eq(&digest)) {
                found = Some(&known.identity);
            }
        }
        found
    }
}

fn parse_line(line: &str) -> Result<Token, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(role), Some(token)) = (words.next(), words.next(), words.next()) else {
        return Err("expected: name role token [prefix …]".to_owned());
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > 100 || !name.chars().all(fine) {
        return Err("a name has up to 100 of a-z, A-Z, 0-9, '-', '_' and '.'".to_owned());
    }
    // What stands in the role's place may be a token.
    let role: Role = role
        .parse()
        .map_err(|()| format!("the role of '{name}' must be read, submit or admin"))?;
    if token.len() < MIN_TOKEN_BYTES || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!(
            "the token of '{name}' must have {MIN_TOKEN_BYTES} or more printable ASCII \
             characters, such as `openssl rand -hex 32` prints"
        ));
    }
    let prefixes: Vec<String> = words
        .take_while(|word| !word.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let access = match prefixes.as_slice() {
        [] => None,
        prefixes => Some(Arc::new(Access::new(prefixes).map_err(|e| e.to_string())?)),
    };
    let caller = Caller {
        name: Some(name.to_owned()),
        access,
    };
    Ok(Token {
        digest: Sha256::digest(token.as_bytes()).into(),
        identity: Identity { role, caller },
    })
}

fn read(path: &Path) -> Result<(Stamp, Tokens), String> {
    let failed = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check_mode(&metadata, path)?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(format!("it has more than {MAX_FILE_BYTES} bytes"));
    }
    let mut text = String::new();
    file.by_ref()
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok((Stamp::of(&metadata), Tokens::parse(&text)?))
}

#[cfg(unix)]
fn check_mode(metadata: &Metadata, path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!(
        "others may read it (mode {:o}); run: chmod 600 '{}'",
        mode & 0o777,
        path.display()
    ))
}

#[cfg(not(unix))]
fn check_mode(_metadata: &Metadata, _path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn finds_the_holder() {
        let text = format!(
            "# who may what\n\nada admin {SECRET}A\n  bob\tread {SECRET}B s3://lake/b /x # his\n"
        );
        let tokens = Tokens::parse(&text).unwrap();
        let found = |suffix: &str| tokens.find(&format!("{SECRET}{suffix}"));
        let ada = found("A").unwrap();
        assert_eq!(
            (ada.caller.name.as_deref(), ada.role),
            (Some("ada"), Role::Admin)
        );
        assert!(ada.caller.access.is_none());
        let bob = found("B").unwrap();
        assert_eq!(
            (bob.caller.name.as_deref(), bob.role),
            (Some("bob"), Role::Read)
        );
        let both = ["s3://lake/b".to_owned(), "/x".to_owned()];
        let expected = Access::new(&both).unwrap();
        assert_eq!(bob.caller.access.as_deref(), Some(&expected));
        for suffix in ["", "C", "AA", "a"] {
            assert!(found(suffix).is_none(), "{suffix}");
        }
        assert!(!format!("{tokens:?}").contains(SECRET));
    }

    #[test]
    fn wrong_lines_are_named_without_what_is_in_them() {
        for (text, expected) in [
            ("", "it holds no token; a line is: name role token"),
            ("ada admin", "line 1: expected: name role token [prefix …]"),
            (
                "\n# x\nada boss 0123456789abcdef",
                "line 3: the role of 'ada' must be read, submit or admin",
            ),
            (
                "ada admin 0123456789abcde",
                "line 1: the token of 'ada' must have 16 or more printable ASCII characters, such \
                 as `openssl rand -hex 32` prints",
            ),
            (
                "ada admin 0123456789abcdef\nada read 0123456789abcdefg",
                "line 2: 'ada' is named twice",
            ),
            (
                "ada admin 0123456789abcdef\nbob read 0123456789abcdef",
                "line 2: the token is another's",
            ),
            (
                "a/b admin 0123456789abcdef",
                "line 1: a name has up to 100 of a-z, A-Z, 0-9, '-', '_' and '.'",
            ),
            (
                "ada admin 0123456789abcdef gs://x",
                "line 1: cannot use the allowed prefix 'gs://x': 'gs://x' is not a place to read \
                 or write: 'gs' is not supported; use a local path, file:// or s3://",
            ),
        ] {
            assert_eq!(Tokens::parse(text).unwrap_err(), expected);
        }
        // Name and token in each other's place.
        let error = Tokens::parse("0123456789abcdef admin ada").unwrap_err();
        assert!(
            !error.contains("ada") || !error.contains("admin"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, format!("ada admin {SECRET}")).unwrap();
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            set(mode);
            let error = TokenFile::open(&path).unwrap_err().to_string();
            let expected = format!(
                "cannot use the file of tokens '{0}': others may read it (mode {mode:o}); \
                 run: chmod 600 '{0}'",
                path.display()
            );
            assert_eq!(error, expected);
        }
        set(0o600);
        let file = TokenFile::open(&path).unwrap();
        assert!(file.find(SECRET).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn changes_are_seen_and_slips_lock_nobody_out() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let write = |text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        write(&format!("ada admin {SECRET}A"));
        let file = TokenFile::open(&path).unwrap();
        let knows = |suffix: &str| file.find(&format!("{SECRET}{suffix}")).is_some();
        write(&format!("ada admin {SECRET}B"));
        assert!(knows("A") && !knows("B"));
        file.refresh();
        assert!(!knows("A") && knows("B"));
        for broken in ["ada boss x", ""] {
            write(broken);
            file.refresh();
            assert!(knows("B"), "{broken}");
        }
        std::fs::remove_file(&path).unwrap();
        file.refresh();
        assert!(knows("B"));
        write(&format!("ada admin {SECRET}A"));
        file.refresh();
        assert!(knows("A") && !knows("B"));
    }
}
