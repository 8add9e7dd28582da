//! The packages, from programs that say little, looked into with Debian's own tools.

#![allow(clippy::unwrap_used)]

use super::tree::{Tree, output};
use super::*;

fn deploy() -> PathBuf {
    root().join("deploy")
}

/// A tree with a program of this machine, as somebody with a strange umask and clock would leave it.
fn packed(directory: &Path, version: &str) -> PathBuf {
    let tree = Tree::new(directory.join("tree")).unwrap();
    tree.file("etc/fettle/server.env", b"# nothing\n", 0o644).unwrap();
    tree.program(Path::new("/bin/true"), "usr/bin/fettle").unwrap();
    tree.directory("etc/fettle/empty.d").unwrap();
    tree.compressed(b".TH fettle 1\n", "usr/share/man/man1/fettle.1").unwrap();
    let deb = Deb {
        name: "fettle",
        version,
        architecture: "amd64",
        depends: "libc6".into(),
        fields: &[("Suggests", "fettle-agent")],
        description: "what it is\nand more of it\n\nat length",
        scripts: deploy().join("debian/fettle"),
    };
    deb.build(&tree, &directory.join("out"), 1_700_000_000, true).unwrap()
}

fn place(name: &str) -> PathBuf {
    let place = std::env::temp_dir().join(format!("fettle-dist-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    place
}

#[test]
fn the_same_content_is_the_same_package_byte_for_byte_whenever_and_wherever_it_is_made() {
    let (here, there) = (place("here"), place("a-longer-way-there"));
    let one = fs::read(packed(&here, "1.0")).unwrap();
    let two = fs::read(packed(&there, "1.0")).unwrap();
    assert!(one.len() > 1000 && one == two);
    assert_ne!(one, fs::read(packed(&there, "1.1")).unwrap(), "and another version is another");
    for place in [here, there] {
        fs::remove_dir_all(place).unwrap();
    }
}

#[test]
fn a_package_says_what_it_is_keeps_the_administrators_files_and_belongs_to_root() {
    let place = place("says");
    let archive = packed(&place, "1.0~git1");
    let ask = |arguments: &[&str]| {
        output(Command::new("dpkg-deb").args(arguments).arg(&archive)).unwrap()
    };
    let field = |name: &str| {
        let said =
            Command::new("dpkg-deb").arg("--field").arg(&archive).arg(name).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(archive.file_name().unwrap(), "fettle_1.0~git1_amd64.deb");
    assert_eq!(field("Version"), "1.0~git1");
    assert_eq!(field("Suggests"), "fettle-agent");
    assert_eq!(field("Description"), "what it is\n and more of it\n .\n at length");
    assert!(field("Installed-Size").parse::<u64>().unwrap() > 10);
    let listed = ask(&["--contents"]);
    for line in listed.lines() {
        assert!(line.contains(" root/root "), "{line}");
        assert!(line.contains("2023-11-14 22:13"), "as old as the commit: {line}");
    }
    assert!(listed.contains("./etc/fettle/empty.d/"), "{listed}");
    assert!(listed.contains("./usr/share/man/man1/fettle.1.gz"), "{listed}");
    let program = listed.lines().find(|l| l.ends_with("./usr/bin/fettle")).unwrap();
    assert!(program.starts_with("-rwxr-xr-x"), "{program}");
    let unpacked = place.join("control");
    output(Command::new("dpkg-deb").arg("--control").arg(&archive).arg(&unpacked)).unwrap();
    let read = |name: &str| fs::read_to_string(unpacked.join(name)).unwrap();
    assert_eq!(read("conffiles"), "/etc/fettle/server.env\n");
    assert!(read("md5sums").contains("  usr/bin/fettle\n"), "{}", read("md5sums"));
    assert!(read("postinst").starts_with("#!/bin/sh\n"));
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn the_server_has_little_of_the_machine_and_the_agent_not_what_it_needs_not() {
    // `systemd-analyze security` rates from 0, nothing to gain here, to 10.
    for (unit, at_most) in [("fettle", 2.0), ("fettle-backup", 1.5), ("fettle-agent", 8.0)] {
        let file = deploy().join(format!("{unit}.service"));
        let text = output(
            Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager"])
                .arg(&file),
        )
        .unwrap();
        let level = text.split("exposure level for").nth(1).unwrap();
        let level = level.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        let level: f64 = level.parse().unwrap();
        assert!(level > 0.0 && level <= at_most, "{unit}: {level}");
    }
}

#[test]
fn every_setting_that_the_configuration_offers_is_one_that_the_server_takes() {
    let offered = fs::read_to_string(deploy().join("server.env")).unwrap();
    let taken = fs::read_to_string(root().join("crates/cli/src/args/server.rs")).unwrap();
    let settings = |text: &str, prefix: &str| {
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| line.trim().split_once(prefix))
            .map(|(_, rest)| rest.split(['=', '"']).next().unwrap_or_default().to_owned())
            .collect();
        found.sort();
        found
    };
    let (offered, taken) =
        (settings(&offered, "#FETTLE_SERVER_"), settings(&taken, "env = \"FETTLE_SERVER_"));
    // Where the data is, the unit says: it is the only place the service may write to. And the server in the package is not
    // built for traces.
    let elsewhere = ["DATA", "OTLP"];
    let taken: Vec<String> =
        taken.into_iter().filter(|name| !elsewhere.contains(&name.as_str())).collect();
    assert!(offered.len() >= 5, "{offered:?}");
    assert_eq!(offered, taken);
}

#[test]
fn maintainer_scripts_are_what_a_posix_shell_takes() {
    let mut looked_at = 0;
    for package in ["fettle", "fettle-agent"] {
        for entry in fs::read_dir(deploy().join("debian").join(package)).unwrap() {
            output(Command::new("sh").arg("-n").arg(entry.unwrap().path())).unwrap();
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 6);
}
