//! The list resources, one file each: what could be imported.

pub mod cluster;
