//! Configuration files as servers have them. PURE.
//!
//! A server may send any file, so all that one can cost is bounded: its length, how deep it nests, and how much its aliases repeat. An alias stands
//! for all that its anchor stands for, so a file of ten kilobytes can be one of gigabytes. No file for etcd or k3s was ever written in this way.
//!
//! etcd turns its file into JSON and reads that. So do we: [`Options`] are an object of JSON.

mod scalar;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScanError, Tag};
use serde_json::Value;

/// The options of a file, by name.
pub type Options = serde_json::Map<String, Value>;

/// The longest file that is read. A large one of etcd's has a few kilobytes.
const LONGEST: usize = 256 << 10;
/// How deep lists and sections may nest. etcd's nest two levels deep.
const DEEPEST: usize = 32;

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is too long.
    #[error("it has {0} bytes, and {LONGEST} are read at most")]
    TooLong(usize),
    /// It is no YAML.
    #[error("{0}")]
    NoYaml(#[from] ScanError),
    /// It nests too deep.
    #[error("its lists and sections nest deeper than {DEEPEST} levels")]
    TooDeep,
    /// Its aliases stand for too much.
    #[error("its aliases repeat too much of it")]
    Repeats,
    /// It has two values for one option.
    #[error("the option {0:?} is in it twice")]
    Twice(String),
    /// It merges one section into another.
    #[error("it merges sections with \"<<\", which is not supported: write the options out")]
    Merges,
    /// An option's name is a list or a section.
    #[error("the name of an option in it is a list or a section")]
    NoName,
    /// A value has a type of its own.
    #[error("a value in it has the tag {0:?}, which is not supported")]
    Tag(String),
    /// There is a second document.
    #[error("it has more than one document")]
    Documents,
    /// It is YAML, but something else.
    #[error("it is no list of options with values")]
    NoOptions,
}

/// The options of a file; none if it is empty.
///
/// # Errors
/// [`YamlError`].
pub fn options(text: &str) -> Result<Options, YamlError> {
    if text.len() > LONGEST {
        return Err(YamlError::TooLong(text.len()));
    }
    match Reader::new(text.len()).read(text)? {
        Some(Value::Object(options)) => Ok(options),
        None | Some(Value::Null) => Ok(Options::new()),
        Some(_) => Err(YamlError::NoOptions),
    }
}

/// A list or section that has not ended yet.
struct Open {
    holds: Holds,
    anchor: usize,
    /// What had been left of the budget when it began.
    left: usize,
}

enum Holds {
    List(Vec<Value>),
    /// And the name whose value comes next.
    Section(Options, Option<String>),
}

/// A value that aliases may stand for, and what it took of the budget.
struct Anchored {
    value: Value,
    size: usize,
}

struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    /// How much may still be read: a few times what was written, at most.
    left: usize,
    read: Option<Value>,
}

impl Reader {
    fn new(length: usize) -> Self {
        Self {
            open: Vec::new(),
            anchors: HashMap::new(),
            left: 4 * length + 64,
            read: None,
        }
    }

    fn read(mut self, text: &str) -> Result<Option<Value>, YamlError> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            match event?.0 {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(YamlError::Documents);
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let left = self.left;
                    self.spend(1 + text.len())?;
                    if self.awaits_name() {
                        if text == "<<" && style == saphyr_parser::ScalarStyle::Plain {
                            return Err(YamlError::Merges);
                        }
                        self.anchor(anchor, || Value::from(&*text), left);
                        self.name(text.into_owned())?;
                    } else {
                        let value = scalar::value(&text, style, tag.as_deref()).map_err(YamlError::Tag)?;
                        self.anchor(anchor, || value.clone(), left);
                        self.put(value);
                    }
                }
                Event::SequenceStart(anchor, tag) => {
                    self.begin(Holds::List(Vec::new()), anchor, tag.as_deref(), "seq")?
                }
                Event::MappingStart(anchor, tag) => {
                    self.begin(Holds::Section(Options::new(), None), anchor, tag.as_deref(), "map")?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(),
                Event::Alias(anchor) => {
                    // An alias inside its own anchor stands for something without end.
                    let Some(Anchored { value, size }) = self.anchors.get(&anchor) else {
                        return Err(YamlError::Repeats);
                    };
                    let (value, size) = (value.clone(), *size);
                    self.spend(1 + size)?;
                    match value {
                        Value::String(name) if self.awaits_name() => self.name(name)?,
                        _ if self.awaits_name() => return Err(YamlError::NoName),
                        value => self.put(value),
                    }
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(self.read)
    }

    fn spend(&mut self, size: usize) -> Result<(), YamlError> {
        self.left = self.left.checked_sub(size).ok_or(YamlError::Repeats)?;
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, value: impl FnOnce() -> Value, left_before: usize) {
        if anchor > 0 {
            let (value, size) = (value(), left_before - self.left);
            self.anchors.insert(anchor, Anchored { value, size });
        }
    }

    fn awaits_name(&self) -> bool {
        matches!(self.open.last(), Some(open) if matches!(open.holds, Holds::Section(_, None)))
    }

    fn name(&mut self, name: String) -> Result<(), YamlError> {
        if let Some(Holds::Section(options, awaited)) = self.open.last_mut().map(|open| &mut open.holds) {
            if options.contains_key(&name) {
                return Err(YamlError::Twice(name));
            }
            *awaited = Some(name);
        }
        Ok(())
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut().map(|open| &mut open.holds) {
            None => self.read = Some(value),
            Some(Holds::List(all)) => all.push(value),
            Some(Holds::Section(options, name)) => {
                if let Some(name) = name.take() {
                    options.insert(name, value);
                }
            }
        }
    }

    fn begin(&mut self, holds: Holds, anchor: usize, tag: Option<&Tag>, usual: &str) -> Result<(), YamlError> {
        if self.awaits_name() {
            return Err(YamlError::NoName);
        }
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == usual)) {
            return Err(YamlError::Tag(tag.to_string()));
        }
        if self.open.len() == DEEPEST {
            return Err(YamlError::TooDeep);
        }
        let left = self.left;
        self.spend(1)?;
        self.open.push(Open { holds, anchor, left });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { holds, anchor, left }) = self.open.pop() else {
            return;
        };
        let value = match holds {
            Holds::List(all) => Value::Array(all),
            Holds::Section(options, _) => Value::Object(options),
        };
        self.anchor(anchor, || value.clone(), left);
        self.put(value);
    }
}

#[cfg(test)]
mod tests;
