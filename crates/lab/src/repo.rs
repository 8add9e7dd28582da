//! The vendor that misbehaves: a signed package archive of synthetic packages.
//!
//! A [`Vendor`] has its own throw-away key, builds real `.deb` files, indexes and signs them, and
//! serves them to the lab's hosts over HTTP on the lab's bridge. To a host it is an archive like any
//! other, with `Origin: Acme`, `Label: Acme-Security`.
//!
//! ```no_run
//! use fettle_lab::repo::{AcmeWeb, Serve, Vendor, acme_web};
//! # fn demo(lab: &fettle_lab::Lab, host: &fettle_lab::LabHost) -> Result<(), fettle_lab::LabError> {
//! let mut vendor = Vendor::new(lab, "acme", Serve::Http)?;
//! vendor.publish(&[acme_web("1.0", AcmeWeb::Good)])?;
//! vendor.install_on(host)?;
//! host.sh("apt-get -q update && apt-get -q -y install acme-web")?.ok()?;
//! vendor.publish(&[acme_web("1.2", AcmeWeb::ServiceDies)])?;
//! # Ok(()) }
//! ```

mod acme;
mod archive;
mod deb;
mod serve;

pub use acme::{ACME_PORT, AcmeWeb, SURPRISES, acme_web};
pub use archive::{Serve, Vendor};
pub use deb::{Deb, PackedFile, Unit};
