//! The server from outside: agents over real mTLS, operators over HTTP, crashes in between.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod access_ledger;
mod accounts;
mod api;
mod approvals;
mod backup;
mod browser;
mod bundles;
mod doctor;
mod evidence;
mod exposed;
mod feeds;
mod fleet;
mod gates;
mod holding;
mod http;
mod journeys;
mod ledger_page;
mod lies;
mod listed;
mod lists;
mod notices;
mod operations;
mod pages;
mod plan_keys;
mod planning;
mod policies;
mod recalls;
mod reports;
mod rollouts;
mod roots;
mod saved_views;
mod schedules;
mod setup;
mod signals;
mod site;
mod sources;
mod strangers;
mod testbed;
mod traces;
mod trust;
mod vendor;
mod watched;
