//! Terraform's protocol, spoken to the real service and the real binary.

mod changes;
mod client;
mod data_sources;
mod durations;
mod houses;
mod newer;
mod others;
mod passing;
mod process;
mod remembered;
mod terraform;
mod things;
mod waiting;
