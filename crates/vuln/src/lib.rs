//! Vendor feeds to advisories, and who is exposed to them. Pure: bytes and values in, values out.
//!
//! [`feed`] parses what vendors publish. [`snapshot`] turns the bundled set of feeds into a
//! [`exposure::Catalogue`]. [`exposure`] judges hosts by it: one host ([`exposure::Catalogue::judge`]) or a fleet
//! ([`exposure::FleetIndex`]), and explains each finding. [`compact`] is a catalogue as a file that is read, not parsed.
//! [`export`] writes what was found as CycloneDX and SARIF,
//! [`sbom`] reads what others list as installed, [`installed`] the databases of package managers in other roots. [`unpack`] takes feeds as they travel.
//!
//! Vendor's word first: the distribution's own data decides who is affected; CVSS, KEV and EPSS only rank.

pub mod compact;
pub mod export;
pub mod exposure;
pub mod feed;
pub mod installed;
pub mod sbom;
pub mod snapshot;
pub mod unpack;
