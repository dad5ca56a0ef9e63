//! Large files, over a channel of their own, in flat memory.

use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::answers;
use super::errors::UploadError;
use super::framing::Frame;
use super::hosts::Host;
use super::root_shell::{Open, rand_nonce};
use super::script::Script;
use super::shell::quote;

/// Bytes that are read and sent at once.
const PIECE: usize = 256 * 1024;
/// How long the machine may take to take one piece: a disk that stands still for so long has failed.
const STALL: Duration = Duration::from_secs(60);

/// A local file and where it goes.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Local path.
    pub from: PathBuf,
    /// Absolute path on the machine. Its directory must exist.
    pub to: String,
    /// Permission bits, `0o755` for example.
    pub mode: u32,
    /// What the file's sha256 must be over there, in lower-case hex.
    pub sha256: String,
    /// Whether to look first if the machine has it already: a round trip. A caller who knows says `false`.
    pub look_first: bool,
}

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The machine had it.
    AlreadyThere,
    /// It was sent and put in place.
    Sent {
        /// How many bytes.
        bytes: u64,
    },
}

impl Host {
    /// Brings a file to the machine: to a temporary file beside its place, compared with `sha256`, then renamed. Owned by root.
    ///
    /// # Errors
    /// [`UploadError`]; nothing is in place then.
    pub async fn upload(&self, upload: &Upload) -> Result<UploadOutcome, UploadError> {
        if upload.look_first && self.has(upload).await? {
            return Ok(UploadOutcome::AlreadyThere);
        }
        let local = |source| UploadError::Local {
            path: upload.from.display().to_string(),
            source,
        };
        let file = tokio::fs::File::open(&upload.from).await.map_err(local)?;
        self.upload_from(file, upload).await
    }

    /// As [`Self::upload`], from any reader; `upload.from` only stands in messages, and nothing is looked for first.
    ///
    /// # Errors
    /// [`UploadError`]; nothing is in place then.
    pub async fn upload_from(
        &self,
        mut reader: impl AsyncRead + Unpin,
        upload: &Upload,
    ) -> Result<UploadOutcome, UploadError> {
        let local = |source| UploadError::Local {
            path: upload.from.display().to_string(),
            source,
        };
        let broken = |detail: String| UploadError::Broken {
            server: self.target().to_string(),
            path: upload.to.clone(),
            detail,
        };
        let started = std::time::Instant::now();
        let (link, sudo) = self
            .link_and_sudo()
            .await
            .map_err(|error| UploadError::Run(error.into()))?;
        let frame = Frame::new(rand_nonce());
        let shell = Open::start(&link, &sudo).map_err(|error| broken(error.to_string()))?;
        let stalled = || broken(format!("the server took nothing for {} s", STALL.as_secs()));
        let script = receiving_script(upload);
        let shell = tokio::time::timeout(STALL, shell.feed(&frame, &script)).await;
        let mut shell = shell
            .map_err(|_| stalled())?
            .map_err(|error| broken(link.fate().reason().map_or_else(|| error.to_string(), str::to_owned)))?;
        let mut piece = vec![0; PIECE];
        let mut bytes = 0;
        let mut digest = Sha256::new();
        loop {
            let count = tokio::select! {
                count = reader.read(&mut piece) => count.map_err(local)?,
                () = self.cancelled() => return Err(broken("stopped on request".to_owned())),
            };
            if count == 0 {
                break;
            }
            digest.update(&piece[..count]);
            let taking = tokio::time::timeout(STALL, shell.input().write_all(&piece[..count]));
            let sent = tokio::select! {
                sent = taking => sent.map_err(|_| stalled())?,
                () = self.cancelled() => return Err(broken("stopped on request".to_owned())),
            };
            if sent.is_err() {
                // The shell ended: `finish` finds out why.
                break;
            }
            bytes += count as u64;
        }
        // Only a whole file carries its checksum, so a cut one is never taken for it.
        let _ = shell.input().shutdown().await;
        let sent = format!("{:x}", digest.finalize());
        let output = tokio::time::timeout(Duration::from_secs(300), shell.finish(&frame, &link))
            .await
            .map_err(|_| broken("no answer after all of it was sent".to_owned()))?
            .map_err(|error| UploadError::Run(self.explain("receiving a file", error)))?;
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(server = %self.target(), path = upload.to, bytes, millis, exit_code = output.exit_code, "upload");
        match output.exit_code {
            0 => Ok(UploadOutcome::Sent { bytes }),
            3 => Err(UploadError::Checksum {
                server: self.target().to_string(),
                path: upload.to.clone(),
                expected: upload.sha256.clone(),
                seen: output.value("sha256").unwrap_or(&sent).to_owned(),
            }),
            code => Err(broken(format!("exit code {code}: {}", output.last_lines()))),
        }
    }

    async fn has(&self, upload: &Upload) -> Result<bool, UploadError> {
        let script = Script::new("looking for a file").set("path", &upload.to).line(format!(
            r#"if [ -f "$path" ] && [ "$(stat -c %a "$path")" = {:o} ]; then sum=$(sha256sum <"$path"); tell sha256 "${{sum%% *}}"; fi"#,
            upload.mode
        ));
        let output = self.run(&script).await?;
        Ok(output
            .value("sha256")
            .is_some_and(|seen| seen.eq_ignore_ascii_case(&upload.sha256)))
    }
}

/// Reads the file from standard input. Exit code 3: another checksum.
fn receiving_script(upload: &Upload) -> String {
    format!(
        r#"set -eu
{answers}path={path}
expected={expected}
temporary=$(mktemp "$path.XXXXXX")
trap 'rm -f "$temporary"' EXIT
cat >"$temporary"
sum=$(sha256sum <"$temporary")
sum=${{sum%% *}}
tell sha256 "$sum"
[ "$sum" = "$expected" ] || exit 3
chmod {mode:o} "$temporary"
mv -fT "$temporary" "$path"
trap - EXIT"#,
        answers = answers::FUNCTIONS,
        path = quote(&upload.to),
        expected = quote(&upload.sha256.to_ascii_lowercase()),
        mode = upload.mode,
    )
}
