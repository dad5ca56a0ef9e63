//! A member that was not restarted yet since its port changed listens at the former one: its own configuration says which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::host::{Host, Script};

/// How long an answer is good for. Where a member only starts, no port is its own yet, and dials follow each other quickly.
const FRESH: Duration = Duration::from_secs(5);
const QUESTION: Duration = Duration::from_secs(5);

/// Where else than at the wanted port a member may listen for clients. Asked only after the wanted one was refused.
#[derive(Clone, Debug)]
pub struct Elsewhere(Arc<Place>);

#[derive(Debug)]
struct Place {
    cluster: String,
    asks: AtomicBool,
    known: Mutex<Option<(Instant, Option<u16>)>>,
}

impl Elsewhere {
    /// Of the member of this cluster on a server. It does not ask until [`Elsewhere::ask_from_now`].
    pub fn of(cluster: &str) -> Self {
        Self(Arc::new(Place {
            cluster: cluster.to_owned(),
            asks: AtomicBool::new(false),
            known: Mutex::default(),
        }))
    }

    /// Has it ask: the member is expected to run already.
    pub fn ask_from_now(&self) {
        self.0.asks.store(true, Ordering::Relaxed);
    }

    /// The port of the configuration that the member runs with, if that is another one than `wanted`.
    pub(super) async fn port(&self, host: &Host, wanted: u16) -> Option<u16> {
        if !self.0.asks.load(Ordering::Relaxed) {
            return None;
        }
        let mut known = self.0.known.lock().await;
        if let Some((asked, port)) = *known
            && asked.elapsed() < FRESH
        {
            return port;
        }
        let script = Script::new("looking at which port the member listens")
            .timeout(QUESTION)
            .set("cluster", &self.0.cluster)
            .line(include_str!("elsewhere.sh"));
        let output = host.run_checked(&script).await.ok();
        let port = output.and_then(|output| output.value("port")?.parse().ok());
        let port = port.filter(|port| *port != wanted);
        *known = Some((Instant::now(), port));
        port
    }
}
