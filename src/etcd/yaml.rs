//! Configuration files as servers have them. PURE.
//!
//! An alias stands for all that its anchor stands for, so a file of ten kilobytes can be one of gigabytes. What is read here may be no more than a
//! few times what is written: no file that repeats itself in this way was ever written for etcd or k3s.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml_ng::{Mapping, Value};

/// The longest file that is read. A large one of etcd's has a few kilobytes.
const LONGEST: usize = 256 << 10;

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is too long.
    #[error("it has {0} bytes, and {LONGEST} are read at most")]
    TooLong(usize),
    /// It is something else.
    #[error("{0}")]
    NoYaml(#[from] serde_yaml_ng::Error),
}

/// The options of a file; none where it is empty.
///
/// # Errors
/// [`YamlError`].
pub fn options(text: &str) -> Result<Mapping, YamlError> {
    if text.len() > LONGEST {
        return Err(YamlError::TooLong(text.len()));
    }
    let left = Cell::new(4 * text.len() + 64);
    let value = Counted(&left).deserialize(serde_yaml_ng::Deserializer::from_str(text))?;
    match value {
        Value::Mapping(options) => Ok(options),
        Value::Null => Ok(Mapping::new()),
        _ => Err(serde_yaml_ng::Error::custom("it is no list of options with values").into()),
    }
}

/// Reads a value, as long as there is something left of what may be read.
#[derive(Clone, Copy)]
struct Counted<'a>(&'a Cell<usize>);

impl Counted<'_> {
    fn spend<E: Error>(self, value: Value, size: usize) -> Result<Value, E> {
        let left = self.0.get().checked_sub(1 + size);
        self.0
            .set(left.ok_or_else(|| E::custom("its aliases repeat too much of it"))?);
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an option's value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(Value::Null, 0)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        self.spend(truth.into(), 0)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.spend(number.into(), 0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.spend(number.into(), 0)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.spend(number.into(), 0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.spend(text.into(), text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            all.push(entry);
        }
        self.spend(Value::Sequence(all), 0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Mapping::new();
        while let Some(key) = entries.next_key_seed(self)? {
            if all.insert(key, entries.next_value_seed(self)?).is_some() {
                return Err(A::Error::custom("an option stands in it twice"));
            }
        }
        self.spend(Value::Mapping(all), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_read_as_they_were() {
        let text = "name: a1\nquota-backend-bytes: 2147483648\nclient-cert-auth: true\nempty:\nratio: 0.5\nnegative: -1\n\
            log-outputs: [stderr, '/var/log/etcd']\npeer-transport-security:\n  cert-file: \"/x\"\n  same: &it [a]\n  again: *it\n";
        let plain: Mapping = serde_yaml_ng::from_str(text).unwrap();
        assert_eq!(options(text).unwrap(), plain);
        assert_eq!(options("").unwrap(), Mapping::new());
        assert_eq!(options("# nothing\n").unwrap(), Mapping::new());
        assert!(options("just a text").is_err() && options("a: b: c").is_err());
    }

    #[test]
    fn a_file_that_repeats_itself_is_refused() {
        let many = format!("a: &a [{}]\nb: [{}]\n", "0,".repeat(4000), "*a,".repeat(4000));
        assert!(options(&many).unwrap_err().to_string().contains("aliases"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), "*a,".repeat(1000));
        assert!(options(&long).unwrap_err().to_string().contains("aliases"));
        assert!(
            options(&"a: b\n".repeat(100_000))
                .unwrap_err()
                .to_string()
                .contains("bytes")
        );
    }

    proptest! {
        #[test]
        fn what_has_no_aliases_is_never_refused(text in "[a-c{}\\[\\]:, \"'\n-]{0,200}") {
            let plain = serde_yaml_ng::from_str::<Mapping>(&text);
            let ours = options(&text);
            if let Ok(plain) = plain {
                prop_assert_eq!(ours.unwrap(), plain);
            }
        }
    }
}
