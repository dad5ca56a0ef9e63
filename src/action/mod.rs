//! The actions, one file each: what is done to a running cluster when the user asks for it. They keep no state.

pub mod compact;
pub mod defragment;
pub mod disarm_alarms;
pub mod move_leader;
pub mod restart;
mod site;
pub mod snapshot;
