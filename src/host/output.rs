//! What came of a script. PURE.

use std::time::Duration;

use super::answers::{AnswerFault, Answers};
use super::errors::last_lines;

/// What came of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output, without the script's answers.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// From sending to the end of the answer.
    pub elapsed: Duration,
    answers: Result<Answers, AnswerFault>,
}

impl Output {
    /// From what a script wrote, and the mark that its answers begin with.
    pub fn new(stdout: &str, stderr: String, exit_code: i32, mark: &str) -> Self {
        let (answers, stdout) = Answers::parse(stdout, mark);
        Self {
            stdout,
            stderr,
            exit_code,
            elapsed: Duration::ZERO,
            answers,
        }
    }

    /// What a script says that writes nothing but these answers, a line each.
    #[cfg(test)]
    pub(crate) fn of_answers(answers: &str) -> Self {
        Self::new(answers, String::new(), 0, "")
    }

    /// Why its answers can't be used, if they can't. It has none then.
    pub fn fault(&self) -> Option<&AnswerFault> {
        self.answers.as_ref().err()
    }

    /// Whether [`Script::write_file`](super::Script::write_file) wrote this file (or would not have needed to).
    pub fn file_changed(&self, path: &str) -> bool {
        self.values("changed-file").any(|changed| changed == path)
    }

    /// Whether any file was written.
    pub fn any_file_changed(&self) -> bool {
        self.values("changed-file").next().is_some()
    }

    /// The values of a key that may have several (`tell_each`), each as one line.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let values = self.answers.as_ref().ok().map(|answers| answers.values(key));
        values.into_iter().flatten()
    }

    /// The one value of a key (`tell`), as one line.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.answers.as_ref().ok()?.value(key)
    }

    /// The one value of a key with all its lines: a file (`tell_file`), or a piece of a log.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.answers.as_ref().ok()?.text(key)
    }

    /// The last lines of standard error, or of standard output where that is empty: for messages.
    pub fn last_lines(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        last_lines(text, 12)
    }
}
