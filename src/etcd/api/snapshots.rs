//! The stream of a snapshot. A member sends it without a quorum, too.

use std::time::Duration;

use etcd_client::SnapshotStreaming;

use super::{Api, ApiError};

const CALL: &str = "snapshot";

/// A snapshot that is being sent.
pub struct SnapshotStream {
    api: Api,
    stream: SnapshotStreaming,
    /// How long each piece may take.
    patience: Duration,
}

impl Api {
    /// Has the member send its database as it is now, and behind it the checksum. `patience` is for each piece, not for all of it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn snapshot(&self, patience: Duration) -> Result<SnapshotStream, ApiError> {
        let mut client = self.client();
        let stream = self.call(CALL, patience, client.snapshot()).await?;
        Ok(SnapshotStream {
            api: self.clone(),
            stream,
            patience,
        })
    }
}

impl SnapshotStream {
    /// The next piece, and how many bytes are still to come; `None` after the last one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn next(&mut self) -> Result<Option<(Vec<u8>, u64)>, ApiError> {
        let piece = self.api.call(CALL, self.patience, self.stream.message()).await?;
        Ok(piece.map(|piece| (piece.blob().to_vec(), piece.remaining_bytes())))
    }
}
