//! The managed resources, one file or folder each, and what they share.

pub mod access;
pub mod alike;
pub mod auth;
pub mod borrowing;
pub mod client_certificate;
pub mod cluster;
pub mod connection;
pub mod departures;
pub mod dialling;
pub mod former;
mod import;
pub mod k3s;
pub mod k3s_cluster;
pub mod k3s_server;
pub mod member;
pub mod ports;
pub mod random;
pub mod restarts;
pub mod road;
pub mod role;
pub mod round_trips;
pub mod server;
pub mod snapshot;
pub mod talk;
pub mod timeouts;
pub mod unreached;
pub mod user;
