//! The managed resources, one file or folder each, and what they share.

pub mod cluster;
pub mod connection;
pub mod member;
pub mod road;
pub mod server;
pub mod timeouts;
