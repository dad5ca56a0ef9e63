//! Scripts that run as root on a machine. PURE.

use std::fmt;
use std::time::Duration;

use super::answers;
use super::files::{FUNCTIONS, FileSpec, put};
use super::shell::{is_variable_name, quote};

/// How long a script may take unless it says so itself.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A script for a POSIX shell (dash and busybox too), run by root with `set -eu`, `LC_ALL=C`, `umask 077`, in `/`, with nothing on its standard
/// input. It travels over standard input and so is in no argument list. What it leaves running must have its output redirected, or
/// the script doesn't end. It answers by `tell` and its like, see `answers`.
///
/// `Debug` shows the title only.
#[derive(Clone)]
pub struct Script {
    title: String,
    body: String,
    timeout: Duration,
    /// Files that are to be written together, as nothing else came in between.
    files: Vec<FileSpec>,
}

impl Script {
    /// An empty script. The title stands in logs and errors, as in "`title` failed with exit code 1".
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
            timeout: DEFAULT_TIMEOUT,
            files: Vec::new(),
        }
    }

    /// What it is called.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Lets it take this long, waiting for its turn not counted. The default is two minutes.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long it may take.
    pub fn allowed_time(&self) -> Duration {
        self.timeout
    }

    /// Assigns `value` to a shell variable, whatever it holds. A `name` that no variable can have makes the script fail.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let line = if is_variable_name(name) {
            format!("{name}={}", quote(value.as_ref()))
        } else {
            format!("echo {} >&2; exit 64", quote(&format!("not a variable name: {name}")))
        };
        self.push(&line);
        self
    }

    /// Appends shell text as it is: one line, or several.
    #[must_use]
    pub fn line(mut self, text: impl AsRef<str>) -> Self {
        self.push(text.as_ref());
        self
    }

    /// Writes a file if it differs in contents, mode or owner. Afterwards `$changed` is 1 if that or an earlier file of this script was written,
    /// and [`Output::file_changed`] tells. A failure ends the script.
    ///
    /// Files that follow each other are written together: first all of them beside their places, then each into its place, in order.
    #[must_use]
    pub fn write_file(mut self, file: &FileSpec) -> Self {
        if self.files.iter().any(|other| other.path == file.path) {
            self.put_files();
        }
        self.files.push(file.clone());
        self
    }

    /// The whole text. It may hold secrets.
    pub(super) fn render(&self) -> String {
        let last = if self.files.is_empty() {
            String::new()
        } else {
            put(&self.files)
        };
        format!("set -eu\n{}{FUNCTIONS}{}{last}", answers::FUNCTIONS, self.body)
    }

    fn put_files(&mut self) {
        if !self.files.is_empty() {
            self.body.push_str(&put(&self.files));
            self.files.clear();
        }
    }

    fn push(&mut self, text: &str) {
        self.put_files();
        self.body.push_str(text);
        if !text.ends_with('\n') {
            self.body.push('\n');
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Script({}, {} bytes)", self.title, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn shells() -> Vec<Vec<&'static str>> {
        let mut shells = vec![vec!["sh"], vec!["bash", "--posix"]];
        if Command::new("busybox").arg("true").status().is_ok() {
            shells.push(vec!["busybox", "sh"]);
        }
        shells
    }

    fn run(shell: &[&str], script: &Script) -> (i32, String, String) {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .arg("-c")
            .arg(script.render())
            .output()
            .expect("the shell runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn owner() -> String {
        format!(
            "{}:{}",
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw()
        )
    }

    #[test]
    fn files_are_written_once() {
        for shell in shells() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("it's a file").display().to_string();
            let file = FileSpec {
                path: path.clone(),
                mode: 0o640,
                owner: owner(),
                contents: b"one\ntwo \0 three".to_vec().into(),
            };
            let script = Script::new("write").write_file(&file).line("echo changed=$changed");
            let (code, stdout, stderr) = run(&shell, &script);
            assert_eq!(
                (code, stdout.as_str()),
                (0, format!("changed-file[]={path}\nchanged=1\n").as_str()),
                "{shell:?}: {stderr}"
            );
            assert_eq!(std::fs::read(&path).expect("written"), b"one\ntwo \0 three");
            let (_, stdout, _) = run(&shell, &script);
            assert_eq!(stdout, "changed=0\n", "{shell:?}");
            let (_, stdout, _) = run(
                &shell,
                &Script::new("mode").write_file(&FileSpec { mode: 0o600, ..file }),
            );
            assert_eq!(stdout, format!("changed-file[]={path}\n"), "{shell:?}");
            assert_eq!(
                std::fs::read_dir(folder.path()).expect("readable").count(),
                1,
                "no temporary file stays"
            );
        }
    }

    #[test]
    fn several_files_are_written_together() {
        use std::os::unix::fs::PermissionsExt as _;
        for shell in shells() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name).display().to_string();
            let file = |name: &str, mode: u32, contents: &[u8]| FileSpec {
                path: path(name),
                mode,
                owner: owner(),
                contents: contents.to_vec().into(),
            };
            let files = [
                file("text", 0o644, b"it's\n\\n $HOME `id`\n\n"),
                file("bytes", 0o600, &[0, 255, 10]),
                file("empty", 0o755, b""),
                file("a line", 0o600, b"\n"),
                file("no newline at its end", 0o600, b"x"),
            ];
            let write = |script, file| Script::write_file(script, file);
            let script = files
                .iter()
                .fold(Script::new("write"), write)
                .line("echo changed=$changed");
            let (code, stdout, stderr) = run(&shell, &script);
            assert_eq!(code, 0, "{shell:?}: {stderr}");
            assert!(stdout.ends_with("changed=1\n"), "{shell:?}: {stdout}");
            for (file, wanted) in
                files
                    .iter()
                    .zip(["it's\n\\n $HOME `id`\n\n".as_bytes(), &[0, 255, 10], b"", b"\n", b"x"])
            {
                assert_eq!(
                    std::fs::read(&file.path).expect("written"),
                    wanted,
                    "{shell:?}: {}",
                    file.path
                );
                let mode = std::fs::metadata(&file.path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, file.mode, "{shell:?}: {}", file.path);
            }
            let (_, stdout, _) = run(&shell, &script);
            assert_eq!(stdout, "changed=0\n", "{shell:?}");
            // One that can't be written leaves the others as they were, and nothing beside them.
            let nowhere = file("nowhere/at/all", 0o600, b"x\n");
            let other = file("text", 0o644, b"other\n");
            let (code, stdout, _) = run(&shell, &Script::new("write").write_file(&other).write_file(&nowhere));
            assert_eq!((code, stdout.as_str()), (1, ""), "{shell:?}");
            assert!(
                std::fs::read(path("text")).expect("there").starts_with(b"it's"),
                "{shell:?}"
            );
            // The same one twice: the last one stands.
            let (_, stdout, _) = run(&shell, &Script::new("write").write_file(&other).write_file(&files[0]));
            assert_eq!(stdout.matches("changed-file[]=").count(), 2, "{shell:?}: {stdout}");
            assert!(
                std::fs::read(path("text")).expect("there").starts_with(b"it's"),
                "{shell:?}"
            );
            assert_eq!(
                std::fs::read_dir(folder.path()).expect("readable").count(),
                5,
                "{shell:?}"
            );
        }
    }

    #[test]
    fn a_printf_that_is_a_program_gets_no_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key").display().to_string();
        let file = FileSpec {
            path: path.clone(),
            mode: 0o600,
            owner: owner(),
            contents: "it's\na key\n".into(),
        };
        let text = Script::new("write").write_file(&file).render();
        let text = text.replace("case $(command -v printf) in", "case /usr/bin/printf in");
        let ran = Command::new("sh").arg("-c").arg(text).status().expect("the shell runs");
        assert!(ran.success());
        assert_eq!(std::fs::read_to_string(&path).expect("written"), "it's\na key\n");
    }

    #[test]
    fn a_failure_ends_the_script() {
        let file = FileSpec {
            path: "/nowhere/at/all".to_owned(),
            mode: 0o600,
            owner: owner(),
            contents: "".into(),
        };
        let (code, stdout, _) = run(&["sh"], &Script::new("write").write_file(&file).line("echo went on"));
        assert_ne!(code, 0);
        assert_eq!(stdout, "");
        let (code, _, stderr) = run(&["sh"], &Script::new("set").set("a b", "c"));
        assert_eq!((code, stderr.trim()), (64, "not a variable name: a b"));
    }

    #[test]
    fn what_can_not_be_written_is_said_with_its_path_and_why() {
        for shell in shells() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name).display().to_string();
            let file = |name: &str, contents: &[u8]| FileSpec {
                path: path(name),
                mode: 0o600,
                owner: owner(),
                contents: contents.to_vec().into(),
            };
            // No file may be larger than this: another fault of the same kind as a full disk.
            let full = "trap '' XFSZ; ulimit -f 0";
            for contents in [&b"text\n"[..], &[0, 255]] {
                let script = Script::new("write").write_file(&file("first", b""));
                let script = script.line(full).write_file(&file("second", contents));
                let (code, _, stderr) = run(&shell, &script);
                let second = path("second");
                assert_eq!(code, 1, "{shell:?}: {stderr}");
                assert!(
                    stderr.contains(&format!("{second} can't be written: File too large.")),
                    "{shell:?}: {stderr}"
                );
                let before = format!("written before: {}.", path("first"));
                assert!(stderr.contains(&before) || stderr.contains("before: none"), "{stderr}");
                assert!(!stderr.contains("I/O error"), "{shell:?}: {stderr}");
            }
            let script = Script::new("write").set("file", path("third")).line(full);
            let (code, _, stderr) = run(&shell, &script.line("write_text \"$file\" text"));
            assert_eq!(code, 1, "{shell:?}: {stderr}");
            assert!(
                stderr.contains("third can't be written: File too large."),
                "{shell:?}: {stderr}"
            );
            let there = std::fs::read_dir(folder.path()).expect("readable").count();
            assert_eq!(there, 1, "{shell:?}: the first one alone");
        }
    }

    #[test]
    fn debug_shows_no_contents() {
        let file = FileSpec {
            path: "/k".to_owned(),
            mode: 0o600,
            owner: owner(),
            contents: "hunter2".into(),
        };
        let shown = format!("{file:?} {:?}", Script::new("t").set("a", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn variables_arrive(text in "[^\0]{0,40}") {
            let script = Script::new("echo").set("value", &text).line(r#"printf %s "$value""#);
            prop_assert_eq!(run(&["sh"], &script).1, text);
        }
    }
}
