//! Running programs of this machine and taking what they say.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + n when signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output without the white space around it.
    ///
    /// # Errors
    /// When the program didn't exit with 0: the error has both outputs.
    pub fn ok(self) -> Result<String> {
        if !self.success() {
            bail!("exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout.trim().to_owned())
    }
}

/// Runs `command` to its end, with `input` as its standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    use std::os::unix::process::ExitStatusExt;
    let what = || format!("running {}", command_line(command));
    let context = what();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| context.clone())?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A thread of its own, so that a program that speaks before it has read everything can't stop us. A program that doesn't
        // read its input at all is no error.
        std::thread::spawn(move || stdin.write_all(&input).ok());
    }
    let done = Arc::new(AtomicBool::new(false));
    go_on_if_stopped(child.id(), Arc::clone(&done));
    let ended = child.wait_with_output().context(context);
    done.store(true, Ordering::Relaxed);
    let ended = ended?;
    Ok(Output {
        code: ended
            .status
            .code()
            .unwrap_or_else(|| 128 + ended.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// A host that shuts down stops all its processes for a moment. nsenter stops itself then (util-linux, `continue_as_child`), outside of the host,
/// where nobody has it go on: its child could never be reaped, and the host would never be down.
fn go_on_if_stopped(program: u32, done: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            let stat = std::fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
            let stopped = stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
            let pid = i32::try_from(program).ok().and_then(rustix::process::Pid::from_raw);
            if let (true, false, Some(pid)) = (stopped, done.load(Ordering::Relaxed), pid) {
                rustix::process::kill_process(pid, rustix::process::Signal::CONT).ok();
            }
        }
    });
}

/// Runs `command` and wants exit code 0.
pub(crate) fn must(command: &mut Command, input: &str) -> Result<String> {
    let output = run(command, input.as_bytes())?;
    output.ok().with_context(|| command_line(command))
}

fn command_line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// A command that will run `program` in the network namespace `namespace`.
pub(crate) fn in_namespace(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace_path(namespace).display()))
        .arg("--")
        .arg(program);
    command
}

/// Where `ip netns` keeps the namespace.
pub(crate) fn namespace_path(namespace: &str) -> std::path::PathBuf {
    Path::new("/run/netns").join(namespace)
}
