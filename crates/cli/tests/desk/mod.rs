//! A real server in a directory of its own, for tests that type commands at it.

use fettle_server::{Running, Server, ServerOptions};
use std::net::SocketAddr;

pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) running: Running,
}

/// On ports that are free, with nothing loaded.
pub(crate) fn start() -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = Server::start(ServerOptions {
        data_dir: dir.path().join("data"),
        operator: any,
        agents: any,
        bundled_feeds: false,
        announce: false,
        ..ServerOptions::default()
    })
    .unwrap();
    Desk { dir, running }
}
