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
use super::marks::{Excess, MOST_ERRORS, MOST_OUTPUT, Marked};
use super::output::Output;
use super::said::{last_lines, text};
use super::target::Sudo;

/// What is read at once.
const PIECE: usize = 16 * 1024;

/// Why a script has no output, before anybody's names are put to it.
#[derive(Debug)]
pub(super) enum ShellError {
    Root(RootError),
    Lost { sent: bool, detail: String },
    TooMuch(Excess),
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
        let mut answer = Answer::of(&frame);
        let mut result = match timeout(job.timeout, shell.converse(&mut answer, &bytes)).await {
            Ok(result) => result.map_err(|ended| shell.explain(ended, &answer, &link)),
            Err(_) => Err(ShellError::TimedOut { waited: job.timeout }),
        };
        if let Ok(output) = &mut result {
            output.elapsed = started.elapsed();
            shell.answered = true;
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

/// A shell that runs.
pub(super) struct Open {
    command: RemoteCommand,
    /// sudo's password, until it has been sent.
    first_line: Option<String>,
    answered: bool,
}

/// What has come of a script's answer.
pub(super) struct Answer {
    mark: String,
    stdout: Marked,
    stderr: Marked,
}

impl Answer {
    pub(super) fn of(frame: &Frame) -> Self {
        Self {
            mark: frame.mark().to_owned(),
            stdout: frame.stream(MOST_OUTPUT),
            stderr: frame.stream(MOST_ERRORS),
        }
    }
}

/// Why a conversation has ended without an answer.
pub(super) enum Ended {
    /// The shell ended, or the connection did.
    Lost { sent: bool, error: Option<io::Error> },
    /// It said too much.
    TooMuch(Excess),
}

impl From<Excess> for Ended {
    fn from(excess: Excess) -> Self {
        Self::TooMuch(excess)
    }
}

impl Open {
    pub(super) fn start(link: &Link, sudo: &Sudo) -> io::Result<Self> {
        let command = link.execute(root_command(sudo))?;
        Ok(Self {
            command,
            first_line: Some(password_line(sudo)),
            answered: false,
        })
    }

    /// Sends a frame and reads until both streams have its end mark. Nothing is waited for in between: password and script travel together.
    async fn converse(&mut self, answer: &mut Answer, bytes: &[u8]) -> Result<Output, Ended> {
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
        let (mut out, mut err) = (vec![0; PIECE], vec![0; PIECE]);
        let lost = |sent, error| Ended::Lost { sent, error };
        loop {
            if let Some(output) = Frame::output(&answer.mark, &answer.stdout, &answer.stderr) {
                return Ok(output);
            }
            if !stdout_open && !stderr_open {
                return Err(lost(sent, None));
            }
            tokio::select! {
                result = &mut sending, if !sent => match result {
                    Ok(()) => sent = true,
                    // What it said before it ended is worth reading.
                    Err(_) => {
                        let said = drain(&mut self.command.stderr, &mut answer.stderr, &mut err);
                        let _ = timeout(Duration::from_secs(2), said).await;
                        return Err(lost(false, None));
                    }
                },
                result = from_shell.read(&mut out), if stdout_open => {
                    let count = result.map_err(|error| lost(sent, Some(error)))?;
                    answer.stdout.take(&out[..count])?;
                    stdout_open = count > 0;
                },
                result = self.command.stderr.read(&mut err), if stderr_open => {
                    let count = result.map_err(|error| lost(sent, Some(error)))?;
                    answer.stderr.take(&err[..count])?;
                    stderr_open = count > 0;
                },
            }
        }
    }

    /// Puts a name to the end of a shell: no root, no connection, or too much. After the last of these nothing that the server says is believed.
    fn explain(&mut self, ended: Ended, answer: &Answer, link: &Link) -> ShellError {
        let (sent, error) = match ended {
            Ended::TooMuch(excess) => {
                link.end(format!("the server sent {excess}"));
                return ShellError::TooMuch(excess);
            }
            Ended::Lost { sent, error } => (sent, error),
        };
        if let Ok(Err(refused)) = self.command.started.try_recv() {
            return ShellError::Lost {
                sent: false,
                detail: format!("no command could be started: {refused}"),
            };
        }
        let ran = self.answered || answer.stdout.has_begun();
        let said = text(answer.stderr.so_far());
        match (link.fate().reason(), error) {
            (Some(reason), _) => ShellError::Lost {
                sent,
                detail: reason.to_owned(),
            },
            (None, Some(error)) => ShellError::Lost {
                sent,
                detail: error.to_string(),
            },
            (None, None) if ran => ShellError::Lost {
                sent,
                detail: format!("the root shell ended. {}", last_lines(&said, 3)),
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
        let mut answer = Answer::of(frame);
        let result = self.converse(&mut answer, &[]).await;
        result.map_err(|ended| self.explain(ended, &answer, link))
    }
}

async fn drain(stream: &mut UnixStream, into: &mut Marked, piece: &mut [u8]) {
    while let Ok(count) = stream.read(piece).await {
        if count == 0 || into.take(&piece[..count]).is_err() {
            break;
        }
    }
}
