//! Ranges of keys, as etcd has them: a key, and the first one behind the range.

/// All that is not before the key.
const TO_THE_END: &[u8] = b"\0";

/// Some keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    key: Vec<u8>,
    end: Vec<u8>,
}

/// Why there is no such range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither of the two, or both.
    #[error("a permission is for a key or for a prefix: set one of the two")]
    OneOfBoth,
    /// A prefix has its end.
    #[error("a prefix has its end already: range_end goes with key")]
    EndOfPrefix,
    /// Nothing is in it.
    #[error("no key is in it: range_end is the first key behind the range, and has to come after {0:?}")]
    Empty(String),
    /// etcd has no such key.
    #[error("a key is not empty; all keys are the prefix \"\"")]
    NoKey,
}

impl KeyRange {
    /// As a configuration says it.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn new(key: Option<&str>, prefix: Option<&str>, end: Option<&str>) -> Result<Self, RangeError> {
        match (key, prefix, end) {
            (None, Some(_), Some(_)) => Err(RangeError::EndOfPrefix),
            (None, Some(prefix), None) => Ok(Self::prefix(prefix)),
            (Some(""), None, _) => Err(RangeError::NoKey),
            (Some(key), None, Some(end)) if end <= key && end.as_bytes() != TO_THE_END => {
                Err(RangeError::Empty(key.to_owned()))
            }
            (Some(key), None, end) => Ok(Self::of(key.as_bytes(), end.unwrap_or_default().as_bytes())),
            _ => Err(RangeError::OneOfBoth),
        }
    }

    /// As etcd says it.
    #[must_use]
    pub fn of(key: &[u8], end: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            end: end.to_vec(),
        }
    }

    /// All keys that begin so.
    fn prefix(prefix: &str) -> Self {
        if prefix.is_empty() {
            return Self::of(b"\0", TO_THE_END);
        }
        Self::of(prefix.as_bytes(), &end_of(prefix.as_bytes()))
    }

    /// Its first key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The first one behind it; empty for a range of one key.
    #[must_use]
    pub fn end(&self) -> &[u8] {
        &self.end
    }

    /// As a configuration would say it: key, prefix, `range_end`. Bytes that are no text are shown as such.
    #[must_use]
    pub fn words(&self) -> [Option<String>; 3] {
        let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
        if self.end.is_empty() {
            [text(&self.key), None, None]
        } else if self.key == b"\0" && self.end == TO_THE_END {
            [None, text(b""), None]
        } else if self.end == end_of(&self.key) {
            [None, text(&self.key), None]
        } else {
            [text(&self.key), None, text(&self.end)]
        }
    }
}

/// The first key behind all that begin so.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    TO_THE_END.to_vec()
}
