//! What agent, server and operator say to each other (version 1), and the signatures over it.
//!
//! Everything here is JSON. Unknown fields are ignored by both sides; a field is never given a new meaning.
//! `tests/golden/` holds one file a message: a change of those files is a change of the protocol.

pub mod agent;
pub mod api;
pub mod bundle;
pub mod errors;
pub mod evidence;
pub mod plan_key;
pub mod sign;
pub mod token;
