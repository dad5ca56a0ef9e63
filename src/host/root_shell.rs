//! The one root shell of a connection: scripts queue up, run one after the other, and cost a round trip each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::errors::RootError;
use super::framing::{Frame, Input, password_line, root_command, root_error};
use super::link::{Link, RemoteCommand};
use super::output::Output;
use super::target::Sudo;

/// Why a script has no output, before anybody's names are put to it.
#[derive(Debug)]
pub(super) enum ShellError {
    Root(RootError),
    Lost { sent: bool, detail: String },
    TimedOut { waited: Duration },
    Cancelled,
}

struct Job {
    title: String,
    script: String,
    timeout: Duration,
    reply: oneshot::Sender<Result<Output, ShellError>>,
}

/// The way to a connection's root shell.
#[derive(Clone, Debug)]
pub(super) struct RootShell {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Job({})", self.title)
    }
}

impl RootShell {
    /// The shell is opened with the first script. It ends with the last clone of this.
    pub(super) fn new(link: Arc<Link>, sudo: Sudo, cancelled: CancellationToken) -> Self {
        let (jobs, queue) = mpsc::channel(64);
        tokio::spawn(serve(link, sudo, cancelled, queue));
        Self { jobs }
    }

    /// Runs a script. Once it has been sent it is seen through to its end, also when the returned future is dropped.
    pub(super) async fn run(&self, title: &str, script: String, timeout: Duration) -> Result<Output, ShellError> {
        let (reply, answer) = oneshot::channel();
        let gone = || ShellError::Lost {
            sent: false,
            detail: "the connection has ended".to_owned(),
        };
        let job = Job {
            title: title.to_owned(),
            script,
            timeout,
            reply,
        };
        self.jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(link: Arc<Link>, sudo: Sudo, cancelled: CancellationToken, mut queue: mpsc::Receiver<Job>) {
    let mut open: Option<Open> = None;
    while let Some(job) = queue.recv().await {
        if cancelled.is_cancelled() {
            // Whoever asked may have gone.
            let _ = job.reply.send(Err(ShellError::Cancelled));
            continue;
        }
        let started = Instant::now();
        let mut shell = match open.take() {
            Some(shell) => shell,
            None => match Open::start(&link, &sudo) {
                Ok(shell) => shell,
                Err(error) => {
                    let _ = job.reply.send(Err(ShellError::Lost {
                        sent: false,
                        detail: error.to_string(),
                    }));
                    continue;
                }
            },
        };
        let frame = Frame::new(rand_nonce());
        let bytes = frame.encode(&job.script, Input::Nothing);
        let size = bytes.len();
        let mut result = match timeout(job.timeout, shell.converse(&frame, &bytes)).await {
            Ok(result) => result.map_err(|lost| shell.explain(lost, &frame, &link)),
            Err(_) => Err(ShellError::TimedOut { waited: job.timeout }),
        };
        if let Ok(output) = &mut result {
            output.elapsed = started.elapsed();
            shell.forget();
            open = Some(shell);
        }
        tracing::debug!(
            title = job.title,
            bytes = size,
            millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ok = result.is_ok(),
            "script"
        );
        let _ = job.reply.send(result);
    }
}

/// 128 bits that a script can't know beforehand.
pub(super) fn rand_nonce() -> u128 {
    let mut bytes = [0; 16];
    // It can't fail on the systems that we run on; if it did, the nonce would be guessable and nothing else.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

/// A shell that runs, with what came from it since the last script.
pub(super) struct Open {
    command: RemoteCommand,
    /// sudo's password, until it has been sent.
    first_line: Option<String>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    answered: bool,
}

/// The shell ended, or the connection did.
pub(super) struct Lost {
    sent: bool,
    error: Option<io::Error>,
}

impl Open {
    pub(super) fn start(link: &Link, sudo: &Sudo) -> io::Result<Self> {
        let command = link.execute(root_command(sudo))?;
        Ok(Self {
            command,
            first_line: Some(password_line(sudo)),
            stdout: Vec::new(),
            stderr: Vec::new(),
            answered: false,
        })
    }

    fn forget(&mut self) {
        self.stdout.clear();
        self.stderr.clear();
        self.answered = true;
    }

    /// Sends a frame and reads until both streams have its end mark. Nothing is waited for in between: password and script travel together.
    async fn converse(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Output, Lost> {
        let first = self.first_line.take().unwrap_or_default();
        let (mut from_shell, mut to_shell) = self.command.stdio.split();
        let mut sent = false;
        let sending = async {
            to_shell.write_all(first.as_bytes()).await?;
            to_shell.write_all(bytes).await
        };
        tokio::pin!(sending);
        let mut stdout_open = true;
        let mut stderr_open = true;
        loop {
            if let Some(output) = frame.output(&self.stdout, &self.stderr) {
                return Ok(output);
            }
            if !stdout_open && !stderr_open {
                return Err(Lost { sent, error: None });
            }
            tokio::select! {
                result = &mut sending, if !sent => match result {
                    Ok(()) => sent = true,
                    // What it said before it ended is worth reading.
                    Err(_) => { drain(&mut self.command.stderr, &mut self.stderr).await; return Err(Lost { sent: false, error: None }); }
                },
                result = from_shell.read_buf(&mut self.stdout), if stdout_open => match result {
                    Ok(count) => stdout_open = count > 0,
                    Err(error) => return Err(Lost { sent, error: Some(error) }),
                },
                result = self.command.stderr.read_buf(&mut self.stderr), if stderr_open => match result {
                    Ok(count) => stderr_open = count > 0,
                    Err(error) => return Err(Lost { sent, error: Some(error) }),
                },
            }
        }
    }

    /// Puts a name to the end of a shell: no root, or no connection.
    fn explain(&mut self, lost: Lost, frame: &Frame, link: &Link) -> ShellError {
        if let Ok(Err(refused)) = self.command.started.try_recv() {
            return ShellError::Lost {
                sent: false,
                detail: format!("no command could be started: {refused}"),
            };
        }
        let ran = self.answered || frame.started(&self.stdout);
        let said = String::from_utf8_lossy(&self.stderr).into_owned();
        match (link.fate().reason(), lost.error) {
            (Some(reason), _) => ShellError::Lost {
                sent: lost.sent,
                detail: reason.to_owned(),
            },
            (None, Some(error)) => ShellError::Lost {
                sent: lost.sent,
                detail: error.to_string(),
            },
            (None, None) if ran => ShellError::Lost {
                sent: lost.sent,
                detail: format!("the root shell ended. {}", super::errors::last_lines(&said, 3)),
            },
            (None, None) => ShellError::Root(root_error(&said)),
        }
    }

    /// Sends the shell's last script, whose standard input is what the caller writes to the returned stream until it shuts it down.
    pub(super) async fn feed(mut self, frame: &Frame, script: &str) -> io::Result<Self> {
        let first = self.first_line.take().unwrap_or_default();
        self.command.stdio.write_all(first.as_bytes()).await?;
        self.command
            .stdio
            .write_all(&frame.encode(script, Input::Follows))
            .await?;
        Ok(self)
    }

    /// The stream that leads to the script that [`Self::feed`] sent.
    pub(super) fn input(&mut self) -> &mut UnixStream {
        &mut self.command.stdio
    }

    /// The output of the script that [`Self::feed`] sent, once its input was shut down.
    pub(super) async fn finish(mut self, frame: &Frame, link: &Link) -> Result<Output, ShellError> {
        let result = self.converse(frame, &[]).await;
        result.map_err(|lost| self.explain(lost, frame, link))
    }
}

async fn drain(stream: &mut UnixStream, into: &mut Vec<u8>) {
    let _ = timeout(Duration::from_secs(2), stream.read_to_end(into)).await;
}
