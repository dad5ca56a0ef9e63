//! What keeps a database small: compaction, defragmentation, and the alarm of one that became too large.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, GetOptions};

use super::{Alarm, Api, ApiError};

impl Api {
    /// The cluster's revision, read linearizably.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn revision(&self, timeout: Duration) -> Result<i64, ApiError> {
        let mut client = self.client();
        let answer = self
            .call(
                "get",
                timeout,
                client.get("health", Some(GetOptions::new().with_count_only())),
            )
            .await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Drops what was superseded before a revision. With `physical` it answers when the database has let go of it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn compact(&self, revision: i64, physical: bool, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        let options = CompactionOptions::new();
        let options = if physical { options.with_physical() } else { options };
        let asked = client.compact(revision, Some(options));
        self.call("compact", timeout, asked).await.map(drop)
    }

    /// Writes this member's database anew, without the space that is free in it. The member serves nobody meanwhile.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn defragment(&self, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("defrag", timeout, client.defragment()).await.map(drop)
    }

    /// Takes a member's alarm back.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn disarm(&self, member: u64, alarm: Alarm, timeout: Duration) -> Result<(), ApiError> {
        let kind = match alarm {
            Alarm::NoSpace => AlarmType::Nospace,
            Alarm::Corrupt => AlarmType::Corrupt,
        };
        let mut options = AlarmOptions::new();
        options.with_member(member);
        let mut client = self.client();
        let asked = client.alarm(AlarmAction::Deactivate, kind, Some(options));
        self.call("alarm disarm", timeout, asked).await.map(drop)
    }
}
