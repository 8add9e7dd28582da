//! The host side of Fettle: inventory, rehearsal, transaction and undo.

pub mod cli;
pub mod command;
pub mod configuration_tests;
pub mod daemon;
pub mod data_paths;
pub mod durable;
pub mod executor;
pub mod host_path;
pub mod identity;
pub mod inventory;
pub mod journal;
pub mod libraries;
pub mod link;
pub mod notify;
pub mod orders;
pub mod overlay;
pub mod packages;
pub mod plan_keys;
pub mod preimage;
pub mod probe;
pub mod reach;
pub mod settings;
pub mod testbed;
pub mod transaction;
pub mod trusted;
pub mod unit;

pub use settings::Settings;
