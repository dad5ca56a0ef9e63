//! (to be written)
pub mod companions;
pub mod handshake;
pub mod proto;
pub mod tls;
