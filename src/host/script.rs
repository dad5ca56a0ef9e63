//! Scripts that run as root on a machine. PURE.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::errors::last_lines;
use super::shell::{is_variable_name, quote};

/// How long a script may take unless it says so itself.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A script for a POSIX shell (dash and busybox too), run by root with `set -eu`, `LC_ALL=C`, `umask 077`, in `/`, with nothing on its standard
/// input. It travels over standard input and so is in no argument list. What it leaves running must have its output redirected, or
/// the script doesn't end.
///
/// `Debug` shows the title only.
#[derive(Clone)]
pub struct Script {
    title: String,
    body: String,
    timeout: Duration,
    puts_files: bool,
}

/// A file to be written whole by [`Script::write_file`].
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
    /// How it gets into place.
    pub placement: Placement,
}

/// What a file holds. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(Vec<u8>);

/// How a written file gets into place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A temporary file beside it is renamed: readers see the old file or the new one.
    Rename,
    /// The file itself is overwritten and keeps its mode and owner when it exists: for files that are bind-mounted or watched, `/etc/hosts`.
    InPlace,
}

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

/// Writes its standard input (base64) to a file, when that differs. Sets `changed=1`, and tells on standard output.
const PUT: &str = r#"changed=0
put_file() {
  put_temporary=$(mktemp "$1.XXXXXX")
  if ! base64 -d >"$put_temporary" || ! chmod "$2" "$put_temporary" || ! chown "$3" "$put_temporary"; then rm -f "$put_temporary"; return 1; fi
  put_state=changed
  if [ -f "$1" ] && [ ! -L "$1" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$put_temporary")" ] &&
    { [ "$4" = in-place ] || [ "$(stat -c %a:%u:%g "$1")" = "$(stat -c %a:%u:%g "$put_temporary")" ]; }; then
    rm -f "$put_temporary"; put_state=same
  elif [ "$4" = in-place ] && [ -e "$1" ]; then
    cat "$put_temporary" >"$1" || { rm -f "$put_temporary"; return 1; }
    rm -f "$put_temporary"
  else
    mv -f "$put_temporary" "$1" || { rm -f "$put_temporary"; return 1; }
  fi
  [ "$put_state" = same ] || changed=1
  printf 'file %s %s\n' "$put_state" "$1"
}
"#;

impl Script {
    /// An empty script. The title stands in logs and errors, as in "`title` failed with exit code 1".
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
            timeout: DEFAULT_TIMEOUT,
            puts_files: false,
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
    #[must_use]
    pub fn write_file(mut self, file: &FileSpec) -> Self {
        self.puts_files = true;
        let placement = match file.placement {
            Placement::Rename => "rename",
            Placement::InPlace => "in-place",
        };
        let mut text = format!(
            "put_file {} {:o} {} {placement} <<'END-OF-FILE'\n",
            quote(&file.path),
            file.mode,
            quote(&file.owner)
        );
        let encoded = STANDARD.encode(&file.contents.0);
        // Some implementations of base64 dislike long lines.
        for line in encoded.as_bytes().chunks(76) {
            text.extend(line.iter().map(|&byte| char::from(byte)));
            text.push('\n');
        }
        text.push_str("END-OF-FILE");
        self.push(&text);
        self
    }

    /// The whole text. It may hold secrets.
    pub(super) fn render(&self) -> String {
        let functions = if self.puts_files { PUT } else { "" };
        format!("set -eu\n{functions}{}", self.body)
    }

    fn push(&mut self, text: &str) {
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

/// What came of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// From sending to the end of the answer.
    pub elapsed: Duration,
}

impl Output {
    /// Whether [`Script::write_file`] wrote this file (or would not have needed to).
    pub fn file_changed(&self, path: &str) -> bool {
        self.stdout
            .lines()
            .any(|line| line.strip_prefix("file changed ") == Some(path))
    }

    /// Whether any file was written.
    pub fn any_file_changed(&self) -> bool {
        self.stdout.lines().any(|line| line.starts_with("file changed "))
    }

    /// The values of all lines `key=value` on standard output with this key: a plain way for scripts to answer.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.stdout
            .lines()
            .filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The first of [`Self::values`].
    pub fn value<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.values(key).next()
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
                placement: Placement::Rename,
            };
            let script = Script::new("write").write_file(&file).line("echo changed=$changed");
            let (code, stdout, stderr) = run(&shell, &script);
            assert_eq!(
                (code, stdout.as_str()),
                (0, format!("file changed {path}\nchanged=1\n").as_str()),
                "{shell:?}: {stderr}"
            );
            assert_eq!(std::fs::read(&path).expect("written"), b"one\ntwo \0 three");
            let (_, stdout, _) = run(&shell, &script);
            assert_eq!(stdout, format!("file same {path}\nchanged=0\n"), "{shell:?}");
            let (_, stdout, _) = run(
                &shell,
                &Script::new("mode").write_file(&FileSpec { mode: 0o600, ..file }),
            );
            assert_eq!(stdout, format!("file changed {path}\n"), "{shell:?}");
            assert_eq!(
                std::fs::read_dir(folder.path()).expect("readable").count(),
                1,
                "no temporary file stays"
            );
        }
    }

    #[test]
    fn in_place_keeps_the_file() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts");
        std::fs::write(&path, "old").expect("written");
        let before = std::fs::metadata(&path).expect("there").ino();
        let file = FileSpec {
            path: path.display().to_string(),
            mode: 0o600,
            owner: owner(),
            contents: "new".into(),
            placement: Placement::InPlace,
        };
        let (code, ..) = run(&["sh"], &Script::new("write").write_file(&file));
        assert_eq!(code, 0);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "new");
        let after = std::fs::metadata(&path).expect("there");
        assert_eq!((after.ino(), after.mode() & 0o777), (before, 0o644));
    }

    #[test]
    fn a_failure_ends_the_script() {
        let file = FileSpec {
            path: "/nowhere/at/all".to_owned(),
            mode: 0o600,
            owner: owner(),
            contents: "".into(),
            placement: Placement::Rename,
        };
        let (code, stdout, _) = run(&["sh"], &Script::new("write").write_file(&file).line("echo went on"));
        assert_ne!(code, 0);
        assert_eq!(stdout, "");
        let (code, _, stderr) = run(&["sh"], &Script::new("set").set("a b", "c"));
        assert_eq!((code, stderr.trim()), (64, "not a variable name: a b"));
    }

    #[test]
    fn debug_shows_no_contents() {
        let file = FileSpec {
            path: "/k".to_owned(),
            mode: 0o600,
            owner: owner(),
            contents: "hunter2".into(),
            placement: Placement::Rename,
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
