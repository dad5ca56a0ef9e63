//! Answers that come as streams: events while a block works, and one of how it ended.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::plugin::diagnostics::Diagnostics;

/// A stream of an RPC.
pub(super) type Events<E> = Pin<Box<dyn Stream<Item = Result<E, Status>> + Send>>;

/// Sends what comes while `work` goes on, then how it ended. A client that hangs up drops the work, which tells
/// the block to stop.
pub(super) fn events<T, E>(
    work: impl Future<Output = Diagnostics> + Send + 'static,
    mut coming: mpsc::UnboundedReceiver<T>,
    event: impl Fn(T) -> E + Send + 'static,
    end: impl FnOnce(Diagnostics) -> Option<E> + Send + 'static,
) -> Events<E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        tokio::pin!(work);
        let ended = loop {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                Some(one) = coming.recv() => { let _ = sender.send(Ok(event(one))); }
                ended = &mut work => break ended,
            }
        };
        // What was sent before the end and not seen yet.
        while let Ok(one) = coming.try_recv() {
            let _ = sender.send(Ok(event(one)));
        }
        if let Some(last) = end(ended) {
            let _ = sender.send(Ok(last));
        }
    });
    Box::pin(UnboundedReceiverStream::new(receiver))
}
