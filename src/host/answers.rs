//! What a script answers: values by key. PURE.
//!
//! A script answers by the functions of `answers.sh` alone. Each answer is a line that begins with the frame's nonce, which no other program on
//! the server knows. So neither a value nor a stray line of another program can make or change an answer. This is the one place where answers
//! are decoded: it refuses control characters in a line, a key that is there twice, and a key that is no key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The functions that a script answers by.
pub const FUNCTIONS: &str = include_str!("answers.sh");

/// Why what a script answered can't be used. The server is damaged, or lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// A line has the mark, and is no answer.
    #[error("a line is no `key=value` ({0})")]
    NoAnswer(String),
    /// A value has a control character in it.
    #[error("the value of {0} holds a control character")]
    Control(String),
    /// A value is said to be base64, and is not.
    #[error("the value of {0} is no base64")]
    Encoding(String),
    /// A key that has one value is there twice.
    #[error("{0} is there twice")]
    Twice(String),
}

/// Values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    one: BTreeMap<String, Told>,
    many: BTreeMap<String, Vec<Told>>,
}

/// A value: as it was told, and as one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    text: String,
    line: String,
}

impl Answers {
    /// The answers among the lines of a script's output, and the other lines.
    ///
    /// # Errors
    /// The first line that can't be used.
    pub fn parse(output: &str, mark: &str) -> (Result<Self, AnswerFault>, String) {
        let (mut answers, mut rest, mut fault) = (Self::default(), String::new(), None);
        for line in output.split_inclusive('\n') {
            match line.strip_prefix(mark) {
                Some(answer) => fault = fault.or(answers.take(answer.strip_suffix('\n').unwrap_or(answer)).err()),
                None => rest.push_str(line),
            }
        }
        (fault.map_or(Ok(answers), Err), rest)
    }

    fn take(&mut self, line: &str) -> Result<(), AnswerFault> {
        let no_answer = || AnswerFault::NoAnswer(shortened(line));
        let (key, value) = line.split_once('=').ok_or_else(no_answer)?;
        let (key, encoded) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        let (key, each) = key.strip_suffix("[]").map_or((key, false), |key| (key, true));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if key.is_empty() || !key.bytes().all(known) {
            return Err(no_answer());
        }
        if value.chars().any(char::is_control) {
            return Err(AnswerFault::Control(key.to_owned()));
        }
        let text = if encoded {
            let bytes = STANDARD.decode(value);
            let bytes = bytes.map_err(|_| AnswerFault::Encoding(key.to_owned()))?;
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            value.to_owned()
        };
        let told = Told {
            line: in_one_line(&text),
            text,
        };
        if each {
            self.many.entry(key.to_owned()).or_default().push(told);
        } else if self.one.insert(key.to_owned(), told).is_some() {
            return Err(AnswerFault::Twice(key.to_owned()));
        }
        Ok(())
    }

    /// The one value of a key, as one line: control characters are shown as `\n` or `\u{1b}`.
    pub fn value<'a>(&'a self, key: &str) -> Option<&'a str> {
        self.one.get(key).map(|told| told.line.as_str())
    }

    /// The one value of a key as it is, with all its lines: the contents of a file.
    pub fn text<'a>(&'a self, key: &str) -> Option<&'a str> {
        self.one.get(key).map(|told| told.text.as_str())
    }

    /// All values of a key that may have several, each as one line.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.many.get(key).into_iter().flatten().map(|told| told.line.as_str())
    }
}

fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

fn shortened(line: &str) -> String {
    in_one_line(&line.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Command;

    fn answers(output: &str) -> Result<Answers, AnswerFault> {
        Answers::parse(output, "m").0
    }

    #[test]
    fn answers_are_told_from_other_lines() {
        let (answers, rest) = Answers::parse("mport=1\nport=2\nmfile[]=a b\nnoise\nmfile[]=\nmtext:=YQpi\n", "m");
        let answers = answers.unwrap();
        assert_eq!(rest, "port=2\nnoise\n");
        assert_eq!(answers.value("port"), Some("1"));
        assert_eq!(answers.values("file").collect::<Vec<_>>(), ["a b", ""]);
        assert_eq!(
            (answers.text("text"), answers.value("text")),
            (Some("a\nb"), Some("a\\nb"))
        );
        assert_eq!((answers.value("file"), answers.values("port").count()), (None, 0));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (said, fault) in [
            ("mport=1\nmport=1\n", AnswerFault::Twice("port".to_owned())),
            ("mport=a\u{1b}[2Jb\n", AnswerFault::Control("port".to_owned())),
            ("mport=a\rb\n", AnswerFault::Control("port".to_owned())),
            ("mport=a\u{9b}b\n", AnswerFault::Control("port".to_owned())),
            ("mport:=a b\n", AnswerFault::Encoding("port".to_owned())),
            ("mport\n", AnswerFault::NoAnswer("port".to_owned())),
            ("m=1\n", AnswerFault::NoAnswer("=1".to_owned())),
            ("mthe port=1\n", AnswerFault::NoAnswer("the port=1".to_owned())),
        ] {
            assert_eq!(answers(said), Err(fault), "{said:?}");
        }
    }

    fn shells() -> Vec<Vec<&'static str>> {
        let there = |shell: &&Vec<&str>| Command::new(shell[0]).arg("--help").output().is_ok();
        let shells = [vec!["sh"], vec!["bash", "--posix"], vec!["busybox", "sh"]];
        shells.iter().filter(there).cloned().collect()
    }

    /// What a shell tells when it is given these values by `call`.
    fn told(shell: &[&str], call: &str, values: &[&std::ffi::OsStr]) -> Answers {
        let script = format!("LC_ALL=C; export LC_ALL; set -eu\n{FUNCTIONS}tell_mark=mark-\n{call}");
        let mut command = Command::new(shell[0]);
        let ran = { command.args(&shell[1..]).arg("-c").arg(script).arg("told").args(values) }
            .output()
            .unwrap();
        assert!(ran.status.success(), "{shell:?}: {ran:?}");
        let (answers, rest) = Answers::parse(&String::from_utf8_lossy(&ran.stdout), "mark-");
        assert_eq!(rest, "", "{shell:?}");
        answers.unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// No value can make another answer, change one, or get lost: in every shell, whatever its bytes.
        #[test]
        fn a_value_is_nothing_but_a_value(first in proptest::collection::vec(1u8.., 0..60), second in "(\\PC|\n|\r|=|mark-|\\[\\]|:=){0,20}") {
            let first = std::ffi::OsStr::from_bytes(&first);
            let second = std::ffi::OsStr::new(&second);
            for shell in shells() {
                let answers = told(&shell, "tell a \"$1\"; tell_each b \"$2\"; tell_each b \"$1\"; tell c \"$2\"", &[first, second]);
                let [one, other] = [first, second].map(std::ffi::OsStr::to_string_lossy);
                prop_assert_eq!(answers.text("a"), Some(&*one));
                prop_assert_eq!(answers.text("c"), Some(&*other));
                prop_assert_eq!(answers.one.len(), 2);
                prop_assert_eq!(answers.many.len(), 1);
                let all: Vec<&str> = answers.many["b"].iter().map(|told| told.text.as_str()).collect();
                prop_assert_eq!(all, [&*other, &*one]);
                prop_assert!(answers.values("b").all(|line| !line.chars().any(char::is_control)));
            }
        }
    }

    #[test]
    fn lines_and_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one\ntwo=\u{e9}\n").unwrap();
        for shell in shells() {
            let call =
                "tell_file file \"$1\"; tell_file none \"$1.not\"; tell_lines line <\"$1\"; tell_pairs p. <\"$1\"";
            let answers = told(&shell, call, &[path.as_os_str()]);
            assert_eq!(answers.text("file"), Some("one\ntwo=\u{e9}\n"));
            assert_eq!(answers.value("none"), None);
            assert_eq!(answers.values("line").collect::<Vec<_>>(), ["one", "two=\u{e9}"]);
            assert_eq!(answers.value("p.two"), Some("\u{e9}"));
        }
    }
}
