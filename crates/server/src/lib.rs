//! The Fettle server: the agents' endpoint, the API, the web pages, and the loops that drive rollouts.
//!
//! | path | what |
//! |---|---|
//! | [`ServerOptions`], [`run`], [`Server`] | starting and stopping |
//! | `trust` | keys, certificates, TLS, the lock on the data directory |
//! | `listener` | taking connections |
//! | `agents` | what agents ask: enroll, checkin, redeem, renew |
//! | `api` | what operators ask: JSON below `/api/v1`, events, OpenAPI |
//! | `router`, `site` | which path leads where |
//! | [`access`], `session` | who asks, and which role each route needs |
//! | `login`, `passwords`, `accounts`, `setup` | coming by name and password; the first admin |
//! | [`web`] | the pages, pure |
//! | `fleet` | the fleet in memory: what lists, counts and searches are made from |
//! | `views` | store → values of the API; API and pages print the same |
//! | `tasks` | loops by timer and signal: rollouts, judging, presence, retention |
//! | `rollouts` | events persisted with what follows from them, in one transaction |
//! | `reports`, [`pdf`] | reports, made when somebody asks and on a schedule |
//! | `trend` | exposure over the last weeks, counted when somebody looks |
//! | [`notices`] | what people are told as soon as it happens |
//! | `webhooks` | what is sent to others: signed, tried again, kept |
//! | `spans`, `otlp` | what was done and for how long, for whoever traces it; the latter by the feature of that name |
//! | [`backup`] | copies of all of it, and the way back from one |
//! | [`doctor`] | what is wrong with this server, and what to do |
//! | `cycles`, `emergencies` | what policies do by themselves, at their time and at once |
//! | `feeds`, `judging` | vendors' data in force, and hosts judged by it |

pub mod access;
mod accounts;
mod agents;
mod api;
mod app;
pub mod backup;
mod chain;
mod cycles;
pub mod doctor;
mod emergencies;
mod events;
pub mod evidence;
mod exposed;
pub mod feeds;
mod fleet;
mod gates;
mod judging;
mod kept;
mod listed;
mod listener;
mod login;
mod metrics;
pub mod notices;
mod options;
#[cfg(any(test, feature = "otlp"))]
pub mod otlp;
mod passwords;
pub mod pdf;
mod plain;
mod plan_keys;
mod policies;
mod recalls;
mod reports;
mod rollouts;
mod router;
mod saved_views;
mod server;
mod session;
mod sessions;
mod setup;
mod site;
mod spans;
mod tasks;
mod testbed;
mod trend;
mod trust;
mod views;
pub mod web;
mod webhooks;

pub use options::ServerOptions;
pub use server::{Running, Server, run};
