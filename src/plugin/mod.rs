//! (to be written)
pub mod companions;
pub mod handshake;
pub mod listener;
pub mod log;
pub mod proto;
pub mod tls;
