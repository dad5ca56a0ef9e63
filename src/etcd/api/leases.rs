//! Leases, and keys that live as long as theirs does.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::{Api, ApiError};

/// What came of creating a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now, with the lease.
    Now,
    /// It was there already.
    Exists {
        /// What it holds.
        value: String,
        /// Its lease; 0 without one.
        lease: i64,
    },
}

impl Api {
    /// A lease that ends by itself when nobody keeps it alive. Returns its ID.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn lease_grant(&self, ttl: Duration, timeout: Duration) -> Result<i64, ApiError> {
        let mut client = self.client();
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let asked = client.lease_grant(seconds, None);
        Ok(self.call("lease grant", timeout, asked).await?.id())
    }

    /// Gives a lease its whole time again. `false`: it has ended.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn lease_keep_alive(&self, lease: i64, timeout: Duration) -> Result<bool, ApiError> {
        let mut client = self.client();
        let asked = async {
            match client.lease_keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.call("lease keep-alive", timeout, asked).await
    }

    /// Ends a lease, and takes its keys away.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn lease_revoke(&self, lease: i64, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        let asked = client.lease_revoke(lease);
        self.call("lease revoke", timeout, asked).await.map(drop)
    }

    /// Creates a key that ends with a lease, if it is not there.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create(&self, key: &str, value: &str, lease: i64, timeout: Duration) -> Result<Created, ApiError> {
        let mut client = self.client();
        let create = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([create])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.call("txn", timeout, client.txn(txn)).await?;
        if answer.succeeded() {
            return Ok(Created::Now);
        }
        let there = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found
                .kvs()
                .first()
                .map(|kv| (String::from_utf8_lossy(kv.value()).into_owned(), kv.lease())),
            _ => None,
        });
        let (value, lease) = there.unwrap_or_default();
        Ok(Created::Exists { value, lease })
    }
}
