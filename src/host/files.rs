//! Files that a script writes whole. PURE.
//!
//! Several at a time, with as few processes as can be: on a small server those are what takes the time. Each is first written beside its place,
//! then all of one mode and of one owner are given that at once, and then one after the other is renamed into its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::shell::quote;

/// A file to be written whole by [`Script::write_file`](super::Script::write_file): a temporary file beside it is renamed, so that readers
/// see the old file or the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path. Its directory must exist.
    pub path: String,
    /// Permission bits, `0o600` for example.
    pub mode: u32,
    /// `user:group`, names or numbers.
    pub owner: String,
    /// What it holds. Any bytes.
    pub contents: Contents,
}

/// What a file holds. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(Vec<u8>);

impl<T: Into<Vec<u8>>> From<T> for Contents {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Contents({} bytes)", self.0.len())
    }
}

impl Contents {
    /// Where it is text that ends in a newline: the text without that.
    fn lines(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.0).ok()?.strip_suffix('\n')?;
        (!text.contains('\0')).then_some(text)
    }
}

/// How every script writes files: `write_text` for one of its own, and what [`put`] needs. A shell whose `printf` is a program of its own would show the
/// text in its argument list; and a temporary file is never one that somebody else has put there (`set -C`).
pub(super) const FUNCTIONS: &str = include_str!("files.sh");

/// The text that writes these files, whose paths differ. On a failure none of the temporary files stays, and the script ends.
pub(super) fn put(files: &[FileSpec]) -> String {
    let temporary = |file: &FileSpec| format!("{}.$$.new", quote(&file.path));
    let mut steps = Vec::new();
    let mut modes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files {
        let beside = temporary(file);
        steps.push(match file.contents.lines() {
            Some(text) => format!("put_text {beside} {} &&\n", quote(text)),
            None => bytes(&beside, &file.contents.0),
        });
        modes.entry(file.mode).or_default().push(beside.clone());
        owners.entry(&file.owner).or_default().push(beside);
    }
    // The owner first: a change of owner may take bits of the mode away.
    for (owner, files) in owners {
        steps.push(format!("chown {} {} &&\n", quote(owner), files.join(" ")));
    }
    for (mode, files) in modes {
        steps.push(format!("chmod {mode:o} {} &&\n", files.join(" ")));
    }
    for file in files {
        steps.push(format!("put_place {} {} &&\n", quote(&file.path), temporary(file)));
    }
    let all: Vec<String> = files.iter().map(temporary).collect();
    format!("{{\n{}true; }} || put_failed {}\n", steps.concat(), all.join(" "))
}

fn bytes(beside: &str, contents: &[u8]) -> String {
    let mut text = format!("put_bytes {beside} <<'END-OF-FILE' &&\n");
    let encoded = STANDARD.encode(contents);
    // Some implementations of base64 dislike long lines.
    for line in encoded.as_bytes().chunks(76) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text.push_str("END-OF-FILE\n");
    text
}
