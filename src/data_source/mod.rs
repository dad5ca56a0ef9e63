//! The data sources, one folder each: what is looked at and never changed.

pub mod cluster_status;
