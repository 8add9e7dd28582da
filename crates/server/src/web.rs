//! The web pages: pure functions from [`fettle_wire::api`] values to HTML.
//!
//! Nothing here asks the store, the clock or the network: the router fetches the values that the API
//! would answer, hands them over with a [`View`], and sends what comes back. Every page can be read
//! without JavaScript; `live.js` swaps `<main>` when the server says that something changed.
//!
//! | path | page | made from |
//! |---|---|---|
//! | `GET /` | [`pages::overview`] | [`Overview`](fettle_wire::api::Overview) |
//! | `GET /wall` | [`pages::wall`] | the same, and [`RolloutDetail`](fettle_wire::api::RolloutDetail) |
//! | `GET /hosts?q=&state=&label=&select=&policy=&ring=&package=&cve=&sort=&limit=&offset=` | [`pages::hosts`] | page of [`HostRow`](fettle_wire::api::HostRow) |
//! | `GET /hosts/{host}` | [`pages::host`] | [`HostDetail`](fettle_wire::api::HostDetail), [`Explained`](fettle_core::policy::Explained) |
//! | `GET /hosts/{host}/packages?q=&offset=` | [`pages::host_packages`] | the host's inventory |
//! | `GET /findings?host=&id=&state=&severity=&limit=&offset=` | [`pages::findings`] | page of [`FindingRow`](fettle_wire::api::FindingRow) |
//! | `GET /findings/{host}/{id}/{source}` | [`pages::finding`] | [`FindingExplained`](fettle_wire::api::FindingExplained) |
//! | `GET /packages?q=&exposed=&sort=`, `GET /packages/{name}` | [`pages::packages`], [`pages::package`] | page of [`PackageRow`](fettle_wire::api::PackageRow), [`PackageDetail`](fettle_wire::api::PackageDetail) |
//! | `GET /cves?q=&class=&severity=&state=&kev=&fixable=&due=&sort=` | [`pages::cves`] | page of [`CveRow`](fettle_wire::api::CveRow) |
//! | `GET /cves/{id}` | [`pages::cve`] | [`CveDetail`](fettle_wire::api::CveDetail) |
//! | `GET /plans`, `GET /plans/{number}` | [`pages::plans`], [`pages::plan`] | [`PlanDetail`](fettle_wire::api::PlanDetail) |
//! | `GET /plans/{number}/{part}?limit=&offset=` | [`pages::plan_part`] | one table of it, a [`pages::PlanPart`] |
//! | `GET /rollouts`, `GET /rollouts/{id}` | [`pages::rollouts`], [`pages::rollout`] | [`RolloutRow`](fettle_wire::api::RolloutRow), [`RolloutDetail`](fettle_wire::api::RolloutDetail) |
//! | `GET /policies`, `GET /policies/{name}` | [`pages::policies`], [`pages::policy`] | [`PolicyRow`](fettle_wire::api::PolicyRow), [`WindowCalendar`](fettle_core::policy::WindowCalendar) |
//! | `GET /policies/{name}/diff/{from}/{to}` | [`pages::policy_diff`] | two of [`PolicyVersion`](fettle_wire::api::PolicyVersion) |
//! | `GET /recalls`, `GET /recalls/{package}/{version}` | [`pages::recalls`], [`pages::recall`] | [`RecallRow`](fettle_wire::api::RecallRow), [`RecallDetail`](fettle_wire::api::RecallDetail) |
//! | `GET /reports?from=&to=&policy=`, `GET /reports.csv?table=`, `GET /reports.html` | [`pages::report`], CSV, [`pages::report_document`] | [`Report`](fettle_wire::api::Report) |
//! | `GET /feeds` | [`pages::feeds`] | [`FeedRow`](fettle_wire::api::FeedRow) |
//! | `GET /ledger?q=&before=&after=` | [`pages::ledger`] | entries and [`LedgerVerified`](fettle_wire::api::LedgerVerified) |
//! | `GET /settings` | [`pages::settings`] | [`ScheduleRow`](fettle_wire::api::ScheduleRow), [`DeliveryRow`](fettle_wire::api::DeliveryRow) |
//! | `GET /account` | [`pages::account`] | [`OwnAccount`](fettle_wire::api::OwnAccount) |
//! | `GET /login`, `GET /setup` | [`pages::login`], [`pages::setup`] | |
//! | any error | [`pages::problem`] | [`Problem`](fettle_core::Problem) |
//! | `GET /errors`, `GET /errors/{code}` | [`pages::errors`], [`pages::error`] | [`fettle_wire::errors`] |
//! | `GET /search?q=` | [`pages::search`]; the router redirects to what is called exactly so | [`Found`](fettle_wire::api::Found) |
//! | `GET /events` | server-sent events: any message makes the page fetch itself again | |
//! | `GET /assets/{name}` | [`assets::get`] | |
//!
//! Forms post `application/x-www-form-urlencoded` and are answered by a redirect (303). The router checks
//! the `Origin` header of each.
//!
//! | path | fields |
//! |---|---|
//! | `POST /login` | `token` |
//! | `POST /logout` | |
//! | `POST /rollouts/{id}/pause`, `resume`, `abort` | `reason` |
//! | `POST /rollouts/{id}/undo` | `reason`, `what` (`host ID`, `wave N`; empty: every patched host) |
//! | `POST /rollouts/{id}/approve` | `wave`, `comment` |
//! | `POST /recalls` | `package`, `version`, `reason`, `undo` |
//! | `POST /recalls/lift` | `package`, `version`, `reason` |
//! | `POST /plans` | `policy` |
//! | `POST /plans/{number}/approve` | `digest`, `comment` |
//! | `POST /plans/{number}/withdraw` | |
//! | `POST /plans/{number}/tests` | |
//! | `POST /rollouts` | `plan`, `digest` |
//! | `POST /feeds/sync` | |
//! | `POST /feeds/{name}/accept` | `digest` |
//! | `POST /policies/{name}/cycle/resume` | `reason` |
//! | `POST /views` | `name`, `query`, `shared` |
//! | `POST /views/remove` | `name`, `owner` |
//! | `POST /settings/schedules/{name}/run` | |
//! | `POST /settings/deliveries/{id}/resend`, `drop` | |

mod account;
mod approval;
pub mod assets;
mod calendar;
mod chart;
mod cve;
mod error;
mod feed;
mod finding;
mod host;
mod host_packages;
mod lanes;
mod layout;
mod ledger;
mod login;
mod mark;
mod next;
mod overview;
mod package;
pub mod pages;
mod plan;
mod plan_diff;
mod plan_parts;
mod plan_report;
mod planning;
mod policy;
mod policy_diff;
mod recall;
mod report;
mod rollout;
mod search;
mod settings;
mod signing;
mod testbed;
mod transaction;
mod wall;
pub mod words;

pub(crate) use layout::encoded;
pub use layout::{CONTENT_SECURITY_POLICY, Span, User, View};
