//! What a member serves as text on its client port: `/metrics`, `/health`, `/version`. It answers where the API does not.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;

use super::ApiError;
use super::bounds::{self, LARGEST_PAGE};
use super::transport::{ApiTarget, Dialler, Protocol, tls_reason};
use crate::host::{Host, said};

type Sender = SendRequest<Empty<Bytes>>;

/// A member's pages, over one connection that is kept from one to the next.
pub struct Pages {
    dialler: Dialler,
    member: String,
    open: Mutex<Option<Sender>>,
}

impl Pages {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// If the certificates can't be used.
    pub fn new(host: &Host, target: &ApiTarget) -> Result<Self, ApiError> {
        Ok(Self {
            dialler: Dialler::new(host, target)?,
            member: target.server_name.clone(),
            open: Mutex::default(),
        })
    }

    /// Connects, TLS included, if there is no connection. Whoever asks meanwhile waits for this one.
    ///
    /// # Errors
    /// [`ApiError`] but `NoLeader` and `Rejected`.
    pub async fn connect(&self, timeout: Duration) -> Result<(), ApiError> {
        let connecting = async {
            let mut open = self.open.lock().await;
            if open.as_ref().is_none_or(Sender::is_closed) {
                *open = Some(self.dial().await?);
            }
            Ok(())
        };
        let late = |_| self.late("connect", timeout);
        tokio::time::timeout(timeout, connecting).await.map_err(late)?
    }

    /// The text at `path`.
    ///
    /// # Errors
    /// [`ApiError`]; another status than 200 is `Rejected` with the text that came.
    pub async fn get(&self, path: &str, timeout: Duration) -> Result<String, ApiError> {
        let call = format!("GET {path}");
        let late = |_| self.late(&call, timeout);
        tokio::time::timeout(timeout, self.ask(path, &call))
            .await
            .map_err(late)?
    }

    async fn ask(&self, path: &str, call: &str) -> Result<String, ApiError> {
        let mut open = self.open.lock().await;
        // Whoever gave up in the middle of an answer leaves nothing behind that the next answer could be taken for.
        if let Some(mut kept) = open.take()
            && kept.ready().await.is_ok()
            && let Ok(text) = self.exchange(&mut kept, path, call).await
        {
            *open = Some(kept);
            return Ok(text);
        }
        let mut fresh = self.dial().await?;
        let text = self.exchange(&mut fresh, path, call).await?;
        *open = Some(fresh);
        Ok(text)
    }

    async fn dial(&self) -> Result<Sender, ApiError> {
        let stream = TokioIo::new(self.dialler.dial(Protocol::Http).await?);
        let (sender, connection) = handshake(stream).await.map_err(|error| self.broken(&error))?;
        // It ends with the sender, or when the member closes it.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn exchange(&self, sender: &mut Sender, path: &str, call: &str) -> Result<String, ApiError> {
        let request = http::Request::get(path)
            .header(http::header::HOST, &self.member)
            .header(http::header::ACCEPT_ENCODING, "gzip")
            .body(Empty::new());
        let request = request.map_err(|error| self.rejected(call, "not sent", &error.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        let status = answer.status();
        let packed = answer
            .headers()
            .get(http::header::CONTENT_ENCODING)
            .is_some_and(|encoding| encoding == "gzip");
        let too_much = || ApiError::TooMuch {
            member: self.member.clone(),
            call: call.to_owned(),
            most: Some(LARGEST_PAGE),
        };
        let body = bounds::page(answer.into_body()).await;
        let body = body.map_err(|error| match bounds::is_too_much(&*error) {
            true => too_much(),
            false => self.broken(&*error),
        })?;
        let bytes = if packed {
            unpacked(&body).map_err(|error| self.rejected(call, "not to be unpacked", &error.to_string()))?
        } else {
            Vec::from(body)
        };
        if bytes.len() > LARGEST_PAGE {
            return Err(too_much());
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|error| said::text(error.as_bytes()));
        if status.is_success() {
            Ok(text)
        } else {
            Err(self.rejected(call, status.as_str(), &text))
        }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ApiError {
        match tls_reason(error).or_else(|| self.dialler.objection.take()) {
            Some(why) => ApiError::Tls {
                member: self.member.clone(),
                why,
            },
            None => ApiError::Unreachable {
                member: self.member.clone(),
                detail: said::one_line(&error.to_string()),
            },
        }
    }

    fn rejected(&self, call: &str, code: &str, message: &str) -> ApiError {
        ApiError::Rejected {
            member: self.member.clone(),
            call: call.to_owned(),
            code: code.to_owned(),
            message: said::one_line(message),
        }
    }

    fn late(&self, call: &str, waited: Duration) -> ApiError {
        ApiError::Timeout {
            member: self.member.clone(),
            call: call.to_owned(),
            waited,
        }
    }
}

/// Metrics are some 100 kB, which an idle connection needs several round trips for, and a tenth of that packed. No more is unpacked than tells that
/// it is too much.
fn unpacked(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = LARGEST_PAGE as u64 + 1;
    GzDecoder::new(body).take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
