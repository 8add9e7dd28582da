//! Sockets that wait for peers: `/proc/net/{tcp,tcp6,udp,udp6}` (proc_net(5)), joined with the processes that hold
//! them.

use fettle_core::inventory::Listener;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TCP_LISTEN, and for UDP the state of a socket that is not connected (`include/net/tcp_states.h`).
const LISTENING: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

struct Socket {
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// All listening sockets, sorted.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let sockets = sockets()?;
    let holders = holders(&sockets);
    let mut listeners: Vec<Listener> = sockets
        .iter()
        .map(|s| {
            let pid = holders.get(&s.inode).and_then(|pids| pids.first());
            Listener {
                protocol: s.protocol.to_owned(),
                address: s.address.to_string(),
                port: s.port,
                process: pid.map_or_else(String::new, |p| super::processes::name(*p)),
                unit: pid.map_or_else(String::new, |p| super::processes::unit(*p)),
            }
        })
        .collect();
    listeners.sort();
    listeners.dedup();
    Ok(listeners)
}

/// Processes that hold a socket that can be reached from elsewhere.
pub(super) fn exposed_processes() -> io::Result<BTreeSet<u32>> {
    let sockets: Vec<Socket> =
        sockets()?.into_iter().filter(|s| !s.address.is_loopback()).collect();
    Ok(holders(&sockets).into_values().flatten().collect())
}

fn sockets() -> io::Result<Vec<Socket>> {
    let mut all = Vec::new();
    for (protocol, state) in LISTENING {
        match fs::read_to_string(format!("/proc/net/{protocol}")) {
            Ok(text) => {
                all.extend(text.lines().skip(1).filter_map(|line| socket(protocol, state, line)))
            }
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`
fn socket(protocol: &'static str, state: &str, line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    fields.next()?;
    if fields.next()? != state {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Socket {
        protocol,
        address: ip(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode,
    })
}

/// The kernel prints each 32-bit word of the address in the machine's byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i * 8)?);
            }
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

/// Socket inode → processes that hold it, lowest pid first.
fn holders(sockets: &[Socket]) -> BTreeMap<u64, Vec<u32>> {
    let wanted: BTreeSet<u64> = sockets.iter().map(|s| s.inode).collect();
    let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for pid in super::processes::all() {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|i| wanted.contains(i)) {
                holders.entry(inode).or_default().push(pid);
            }
        }
    }
    for pids in holders.values_mut() {
        pids.sort_unstable();
        pids.dedup();
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_this_test_opens_is_seen_with_its_address_and_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners().unwrap();
        let ours =
            found.iter().find(|l| l.port == port && l.protocol == "tcp").expect("our socket");
        assert_eq!(ours.address, "127.0.0.1");
        assert!(!ours.process.is_empty());
        drop(socket);
        assert!(!listeners().unwrap().iter().any(|l| l.port == port && l.protocol == "tcp"));
    }

    #[test]
    fn addresses_are_read_in_the_machine_s_byte_order() {
        if cfg!(target_endian = "little") {
            assert_eq!(ip("0100007F"), Some("127.0.0.1".parse().unwrap()));
            assert_eq!(ip("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        }
        assert_eq!(ip("00000000"), Some("0.0.0.0".parse().unwrap()));
        assert_eq!(ip("xyz"), None);
    }
}
