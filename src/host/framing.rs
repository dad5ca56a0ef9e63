//! The conversation with the shell on a machine. PURE.
//!
//! One shell is started for each connection. It first reads one line, sudo's password (mostly empty), becomes root, and
//! then reads *frames*: a header line `MAGIC length nonce mode`, and exactly `length` bytes of script. So a connection that is cut never runs half a
//! script, and no script stands in an argument list. Each script's output stands between marks with the frame's nonce, on
//! both streams; what a login script prints before falls away.

use super::errors::RootError;
use super::marks::Marked;
use super::output::Output;
use super::said::{last_lines, one_line, text};
use super::shell::quote;
use super::target::Sudo;

const MAGIC: &str = "terraform-provider-etcd-frame";

/// Runs frames until its standard input ends. The script runs in a subshell whose output goes through `cat`: when the connection is cut, the
/// second `cat` swallows the rest, so that the script isn't ended by a broken pipe halfway.
/// `dd` with single bytes doesn't read beyond the frame, where the script's own standard input follows (mode `input`). `head` may (busybox does), but
/// otherwise nothing follows a frame before it was answered.
const LOOP: &str = concat!(
    "trap : HUP; trap \"\" PIPE; umask 077; LC_ALL=C; PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH; unset LANGUAGE; cd /; ",
    "drained() { cat 2>/dev/null || cat >/dev/null; }; ",
    "framed() { ( tell_mark=$nonce; eval \"$script\" ) 3>&- 4>&- 5>&-; echo $? >&5; }; ",
    "while read -r magic length nonce mode; do ",
    "[ \"$magic\" = terraform-provider-etcd-frame ] || continue; ",
    "case $mode in input) script=$(dd bs=1 count=\"$length\" 2>/dev/null); exec 6<&0;; *) script=$(head -c \"$length\"); exec 6</dev/null;; esac; ",
    "[ \"${#script}\" = \"$length\" ] || exit 97; ",
    "printf \"%s<\\n\" \"$nonce\"; printf \"%s<\\n\" \"$nonce\" >&2; ",
    "exec 3>&1 4>&2; ",
    "code=$( { { framed <&6 | drained >&3; } 2>&1 | drained >&4; } 5>&1 ); ",
    "printf \"\\n%s>%s\\n\" \"$nonce\" \"$code\"; printf \"\\n%s>\\n\" \"$nonce\" >&2; ",
    // What the script left of its input is no frame.
    "[ \"$mode\" = input ] && exit 0; ",
    "done"
);

/// The command to execute for a root shell. It holds no newline, exclamation mark or secret: it is seen in the process list, and the
/// user's login shell may be any.
pub fn root_command(sudo: &Sudo) -> String {
    let inner = quote(LOOP);
    let become_root = match sudo {
        Sudo::No => "echo tpe:not-root >&2; exit 96".to_owned(),
        // A first run of sudo is given the password and then the end of its input, so that a wrong one counts once: otherwise sudo would
        // take what follows for further attempts, and the account may be locked.
        Sudo::Yes { password: None } => format!("exec sudo -n sh -c {inner}"),
        Sudo::Yes { password: Some(_) } => format!(
            "printf \"%s\\n\" \"$password\" | sudo -S -p \"\" sh -c : || exit 95; \
             {{ printf \"%s\\n\" \"$password\"; unset password; exec cat; }} | sudo -S -p \"\" sh -c {inner}"
        ),
    };
    let outer = format!(
        "LC_ALL=C; PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH; unset LANGUAGE; IFS= read -r password; \
         [ \"$(id -u)\" = 0 ] && exec sh -c {inner}; \
         command -v sudo >/dev/null 2>&1 || {{ echo tpe:no-sudo >&2; exit 96; }}; {become_root}"
    );
    format!("exec sh -c {}", quote(&outer))
}

/// The line that the shell reads first.
pub fn password_line(sudo: &Sudo) -> String {
    match sudo {
        Sudo::Yes {
            password: Some(password),
        } => format!("{}\n", password.expose().lines().next().unwrap_or_default()),
        Sudo::Yes { password: None } | Sudo::No => "\n".to_owned(),
    }
}

/// Where a script's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nowhere.
    Nothing,
    /// From what follows the frame, to the end of the channel: the shell's last script.
    Follows,
}

/// One script on its way.
#[derive(Debug)]
pub struct Frame {
    nonce: String,
}

impl Frame {
    /// `nonce` must not be guessable by what prints the script's output, so that this can't fake its end.
    pub fn new(nonce: u128) -> Self {
        Self {
            nonce: format!("{nonce:032x}"),
        }
    }

    /// Header and script.
    pub fn encode(&self, script: &str, input: Input) -> Vec<u8> {
        let mode = match input {
            Input::Nothing => "quiet",
            Input::Follows => "input",
        };
        // Command substitution drops newlines at the end, so there must be none.
        let script = format!("{}\n:", script.trim_end_matches('\n'));
        format!("{MAGIC} {} {} {mode}\n{script}", script.len(), self.nonce).into_bytes()
    }

    /// One of the two streams that the answer comes on, of `most` bytes.
    pub fn stream(&self, most: usize) -> Marked {
        let (start, end) = (format!("{}<\n", self.nonce), format!("\n{}>", self.nonce));
        Marked::new(start.into_bytes(), end.into_bytes(), most)
    }

    /// What the script's answers begin with.
    pub fn mark(&self) -> &str {
        &self.nonce
    }

    /// Both streams, once both are complete. `mark` is that of the frame.
    pub fn output(mark: &str, stdout: &Marked, stderr: &Marked) -> Option<Output> {
        let (out, code) = stdout.text()?;
        let (err, _) = stderr.text()?;
        let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
        Some(Output::new(&text(out), text(err), code.unwrap_or(255), mark))
    }
}

/// Why the shell ended before it ran anything, from what was on standard error (in the C locale).
pub fn root_error(stderr: &str) -> RootError {
    let has = |part: &str| stderr.contains(part);
    let line_with = |parts: &[&str]| {
        stderr
            .lines()
            .find(|line| parts.iter().any(|part| line.contains(part)))
            .map(one_line)
    };
    if has("tpe:not-root") {
        return RootError::NotRoot;
    }
    if has("tpe:no-sudo") {
        return RootError::NoSudo;
    }
    if has("you must have a tty") {
        return RootError::NeedsTerminal;
    }
    if let Some(said) = line_with(&["is not in the sudoers file", "is not allowed to", "may not run sudo"]) {
        return RootError::NoSudoRights { said };
    }
    if has("Sorry, try again")
        || has("incorrect password")
        || has("Authentication failed")
        || has("incorrect authentication attempt")
    {
        return RootError::SudoPasswordWrong;
    }
    if has("a password is required")
        || has("no password was provided")
        || has("a terminal is required")
        || has("no askpass program")
        || has("interactive authentication is required")
    {
        return RootError::SudoPasswordNeeded;
    }
    RootError::Other {
        said: last_lines(stderr, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::Secret;
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// What a shell answers to some frames, without SSH.
    fn converse(shell: &[&str], input: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .arg("-c")
            .arg(root_command(&Sudo::No))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the shell runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        let _ = writer.join();
        (output.stdout, output.stderr)
    }

    /// What both streams come to.
    fn answer(frame: &Frame, stdout: &[u8], stderr: &[u8]) -> Option<Output> {
        let [mut out, mut err] = [frame.stream(1 << 20), frame.stream(1 << 20)];
        out.take(stdout).expect("not too much");
        err.take(stderr).expect("not too much");
        Frame::output(frame.mark(), &out, &err)
    }

    fn am_root() -> bool {
        rustix::process::getuid().is_root()
    }

    #[test]
    fn scripts_run_one_after_the_other() {
        if !am_root() {
            return;
        }
        for shell in [vec!["dash"], vec!["bash"], vec!["busybox", "sh"]] {
            let frame = Frame::new(7);
            let (out, err) = converse(
                &shell,
                &[
                    b"\n".to_vec(),
                    frame.encode("echo out; echo err >&2; exit 3\n\n", Input::Nothing),
                ]
                .concat(),
            );
            let output = answer(&frame, &out, &err).unwrap_or_else(|| {
                panic!(
                    "{shell:?}: {} {}",
                    String::from_utf8_lossy(&out),
                    String::from_utf8_lossy(&err)
                )
            });
            assert_eq!(
                (output.stdout.as_str(), output.stderr.as_str(), output.exit_code),
                ("out\n", "err\n", 3),
                "{shell:?}"
            );
        }
    }

    #[test]
    fn a_script_may_read_what_follows() {
        if !am_root() {
            return;
        }
        let frame = Frame::new(8);
        let mut input = [b"secret\n".to_vec(), frame.encode("cat | wc -c", Input::Follows)].concat();
        input.extend(vec![0xff; 200_000]);
        let (out, err) = converse(&["sh"], &input);
        assert_eq!(answer(&frame, &out, &err).expect("answered").stdout.trim(), "200000");
        assert!(!String::from_utf8_lossy(&out).contains("secret"));
    }

    #[test]
    fn half_a_script_never_runs() {
        if !am_root() {
            return;
        }
        let whole = Frame::new(9).encode("echo ran; echo ran; echo ran", Input::Nothing);
        for cut in [whole.len() - 1, whole.len() - 9, 40, 10] {
            let (out, _) = converse(&["sh"], &[b"\n", &whole[..cut]].concat());
            assert_eq!(String::from_utf8_lossy(&out), "", "cut at {cut}");
        }
    }

    #[test]
    fn nothing_secret_in_the_command() {
        let sudo = Sudo::Yes {
            password: Some(Secret::new("hunter2")),
        };
        let command = root_command(&sudo);
        assert!(!command.contains("hunter2") && !command.contains('\n') && !command.contains('!'));
        assert_eq!(password_line(&sudo), "hunter2\n");
    }

    #[test]
    fn sudo_is_understood() {
        for (said, error) in [
            ("sudo: a password is required\n", RootError::SudoPasswordNeeded),
            (
                "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt\n",
                RootError::SudoPasswordWrong,
            ),
            (
                "sudo: sorry, you must have a tty to run sudo\n",
                RootError::NeedsTerminal,
            ),
            (
                "bob is not in the sudoers file.\n",
                RootError::NoSudoRights {
                    said: "bob is not in the sudoers file.".to_owned(),
                },
            ),
            ("tpe:no-sudo\n", RootError::NoSudo),
            ("tpe:not-root\n", RootError::NotRoot),
            (
                "This account is currently not available.\n",
                RootError::Other {
                    said: "This account is currently not available.".to_owned(),
                },
            ),
        ] {
            assert_eq!(root_error(said), error);
        }
    }

    proptest! {
        #[test]
        fn what_stands_between_the_marks_is_the_output(before in "[a-z\n]{0,20}", text in proptest::collection::vec(any::<u8>(), 0..200), code in 0u8..=255) {
            let frame = Frame::new(0x1234);
            let mut stream = before.into_bytes();
            stream.extend(b"00000000000000000000000000001234<\n");
            stream.extend(&text);
            let mut out = frame.stream(200);
            out.take(&stream).expect("not too much");
            prop_assert_eq!(out.text(), None);
            out.take(format!("\n00000000000000000000000000001234>{code}\n").as_bytes()).expect("not too much");
            let code = code.to_string();
            prop_assert_eq!(out.text(), Some((text.as_slice(), code.as_bytes())));
        }
    }
}
