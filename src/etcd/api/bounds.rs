//! How much a member may answer. A message of a few bytes may be a structure of a hundred, so the bounds are far below the memory that there is.

use bytes::Bytes;
use etcd_client::Channel;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service as _, ServiceExt as _};

/// The most bytes of an answer of the API's. A list of nine members is some 2 kB.
pub const LARGEST_ANSWER: usize = 64 << 10;
/// The most bytes of one about access: a role has 60 kB with 1,000 permissions.
const LARGEST_ABOUT_ACCESS: usize = 256 << 10;
/// The most bytes of a page, packed or not. Metrics are some 100 kB, and 500 kB where etcd is told to measure everything.
pub const LARGEST_PAGE: usize = 2 << 20;
const ACCESS: &str = "/etcdserverpb.Auth/";
/// The one call whose answer goes to a file, piece by piece. Each piece is bounded by tonic (4 MiB; etcd's have 32 KiB).
const STREAM: &str = "/etcdserverpb.Maintenance/Snapshot";

/// A channel whose answers are bounded.
pub fn bounded(channel: tonic::transport::Channel) -> Channel {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let mut channel = channel.clone();
        async move {
            let most = most(request.uri().path());
            let answer = channel.ready().await?.call(request).await?;
            Ok::<_, BoxError>(match most {
                Some(most) => answer.map(|body| Body::new(Limited::new(body, most))),
                None => answer,
            })
        }
    });
    Channel::Custom(BoxCloneSyncService::new(service))
}

/// How many bytes the answer to a call may have.
fn most(path: &str) -> Option<usize> {
    match path {
        STREAM => None,
        path if path.starts_with(ACCESS) => Some(LARGEST_ABOUT_ACCESS),
        _ => Some(LARGEST_ANSWER),
    }
}

/// All of a page's bytes.
///
/// # Errors
/// What [`is_too_much`] knows, or why they did not come.
pub async fn page(body: Incoming) -> Result<Bytes, BoxError> {
    Ok(Limited::new(body, LARGEST_PAGE).collect().await?.to_bytes())
}

/// Whether an error says that an answer was too long.
pub fn is_too_much(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.into_iter().any(|error| error.is::<LengthLimitError>())
}
