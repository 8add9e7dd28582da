//! Roots as engines lay them out, and what a hostile one may try.

use super::*;
use fettle_vuln::exposure::PACKAGES_GAP;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

const RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";

fn status(name: &str, version: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
    )
}

fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A host that is a directory, so that nothing of this machine is looked at.
fn host() -> (tempfile::TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { root: dir.path().to_owned(), ..Settings::default() };
    (dir, settings)
}

fn found(settings: &Settings) -> Found {
    installed(settings, Limits::default())
}

/// `kind:name image version` and packages of each.
fn told(found: &Found) -> Vec<(String, Vec<String>)> {
    let packages = |root: &Root| {
        root.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect::<Vec<_>>()
    };
    let name = |root: &Root| format!("{} {} {}", root.id(), root.image, root.os.version);
    found.roots.iter().map(|root| (name(root), packages(root))).collect()
}

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A container of Docker with two layers below its own.
fn docker(at: &Path) -> std::path::PathBuf {
    let data = at.join("var/lib/docker");
    write(
        &data,
        &format!("containers/{ID}/config.v2.json"),
        r#"{"ID":"x","Name":"/web","Driver":"overlay2","Config":{"Image":"example/web:1"},"State":{"Running":true,"Pid":1}}"#,
    );
    write(&data, &format!("image/overlay2/layerdb/mounts/{ID}/mount-id"), "own");
    write(&data, "overlay2/own/lower", "l/UPPER:l/BASE");
    for (layer, short) in [("upper", "UPPER"), ("base", "BASE")] {
        fs::create_dir_all(data.join(format!("overlay2/{layer}/diff"))).unwrap();
        fs::create_dir_all(data.join("overlay2/l")).unwrap();
        symlink(format!("../{layer}/diff"), data.join("overlay2/l").join(short)).unwrap();
    }
    fs::create_dir_all(data.join("overlay2/own/diff")).unwrap();
    let layers = data.join("overlay2");
    write(&layers, "base/diff/usr/lib/os-release", RELEASE);
    fs::create_dir_all(layers.join("base/diff/etc")).unwrap();
    symlink("../usr/lib/os-release", layers.join("base/diff/etc/os-release")).unwrap();
    write(&layers, "base/diff/var/lib/dpkg/status", status("libssl3", "3.0.11-1"));
    layers
}

#[test]
fn a_container_of_docker_that_does_not_run_is_read_from_its_layers() {
    let (dir, settings) = host();
    let layers = docker(dir.path());
    assert_eq!(
        told(&found(&settings)),
        [("docker:web example/web:1 12".to_owned(), vec!["libssl3 3.0.11-1".to_owned()])]
    );
    let root = &found(&settings).roots[0];
    assert_eq!(
        (root.location.as_str(), root.running),
        ("/var/lib/docker/overlay2/own/diff", false)
    );
    assert_eq!(root.architecture, "amd64");
    // What an upper layer has counts, and the container's own most.
    write(&layers, "upper/diff/var/lib/dpkg/status", status("libssl3", "3.0.14-1"));
    assert_eq!(told(&found(&settings))[0].1, ["libssl3 3.0.14-1"]);
    write(&layers, "own/diff/var/lib/dpkg/status", status("libssl3", "3.0.15-1"));
    assert_eq!(told(&found(&settings))[0].1, ["libssl3 3.0.15-1"]);
}

#[test]
fn what_an_upper_layer_removed_is_not_taken_from_a_lower_one() {
    let (dir, settings) = host();
    let layers = docker(dir.path());
    let own = layers.join("own/diff/var/lib/dpkg");
    fs::create_dir_all(&own).unwrap();
    // As overlayfs writes it: a device without a number, which root alone may make.
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    if mknodat(CWD, own.join("status"), FileType::CharacterDevice, Mode::empty(), 0).is_err() {
        println!("skipped: only root can make the device that stands for a removed file");
        return;
    }
    let root = &found(&settings).roots[0];
    assert!(root.packages.is_empty() && root.gaps[0].starts_with(PACKAGES_GAP), "{root:?}");
    fs::remove_file(own.join("status")).unwrap();
    assert_eq!(found(&settings).roots[0].packages.len(), 1);
    // A directory that hides the one below it.
    let opaque = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&own, "trusted.overlay.opaque", b"y", opaque).is_ok() {
        assert!(found(&settings).roots[0].packages.is_empty());
    }
}

#[test]
fn containers_of_podman_machines_and_chroots_are_found_where_they_are_kept() {
    let (dir, settings) = host();
    let graph = dir.path().join("srv/graph");
    write(
        dir.path(),
        "etc/containers/storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/graph\"\n",
    );
    write(
        &graph,
        "overlay-containers/containers.json",
        format!(
            r#"[{{"id":"{ID}","names":["db"],"layer":"abc","metadata":"{{\"image-name\":\"example/db:2\",\"name\":\"db\"}}"}}]"#
        ),
    );
    write(&graph, "overlay/abc/diff/etc/os-release", "ID=alpine\nVERSION_ID=3.19.1\n");
    write(&graph, "overlay/abc/diff/lib/apk/db/installed", "P:musl\nV:1.2.4-r2\nA:x86_64\n\n");
    let machine = dir.path().join("var/lib/machines/build");
    write(&machine, "etc/os-release", RELEASE);
    write(&machine, "var/lib/dpkg/status", status("dpkg", "1.21.22"));
    fs::create_dir_all(dir.path().join("var/lib/machines/.hidden")).unwrap();
    write(dir.path(), "var/lib/machines/image.raw", "");
    write(dir.path(), "etc/schroot/chroot.d/sid", "[sid]\ntype=directory\ndirectory=/srv/sid\n");
    let chroot = dir.path().join("srv/sid");
    write(&chroot, "usr/lib/os-release", RELEASE);
    write(&chroot, "var/lib/dpkg/status.d/base", "Package: base\nVersion: 1\nArchitecture: all\n");
    write(&chroot, "var/lib/dpkg/status.d/tz", "Package: tzdata\nVersion: 2\nArchitecture: all\n");
    write(&chroot, "var/lib/dpkg/status.d/tz.md5sums", "0 x\n");
    let found = found(&settings);
    let of = |name: &str, packages: &[&str]| {
        (name.to_owned(), packages.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(
        told(&found),
        [
            of("podman:db example/db:2 3.19.1", &["musl 1.2.4-r2"]),
            of("nspawn:build  12", &["dpkg 1.21.22"]),
            of("chroot:sid  12", &["base 1", "tzdata 2"]),
        ]
    );
    assert_eq!(found.gaps, ["other roots: machine image is an image file, which is not opened"]);
}

#[test]
fn a_hostile_root_does_not_lead_out_of_itself() {
    let (dir, settings) = host();
    // What must not be told: a database outside of the root.
    write(dir.path(), "outside/var/lib/dpkg/status", status("secret", "1"));
    write(dir.path(), "outside/etc/os-release", "ID=secret\n");
    let machine = dir.path().join("var/lib/machines/m");
    write(&machine, "etc/os-release", RELEASE);
    let outside = dir.path().join("outside");
    type Prepare<'a> = Box<dyn Fn(&Path) + 'a>;
    let tries: [(&str, Prepare<'_>); 7] = [
        (
            "a link to an absolute path",
            Box::new(|m: &Path| symlink(&outside, m.join("var")).unwrap()),
        ),
        (
            "a link that climbs",
            Box::new(|m: &Path| symlink("../../../../outside/var", m.join("var")).unwrap()),
        ),
        (
            "a link through /proc",
            Box::new(|m: &Path| {
                fs::create_dir_all(m.join("var/lib/dpkg")).unwrap();
                symlink("/proc/self/root/etc/passwd", m.join("var/lib/dpkg/status")).unwrap();
            }),
        ),
        (
            "a pipe that nobody writes to",
            Box::new(|m: &Path| {
                fs::create_dir_all(m.join("var/lib/dpkg")).unwrap();
                let kind = rustix::fs::FileType::Fifo;
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, m.join("var/lib/dpkg/status"), kind, mode, 0)
                    .unwrap();
            }),
        ),
        (
            "a directory where a file is expected",
            Box::new(|m: &Path| fs::create_dir_all(m.join("var/lib/dpkg/status")).unwrap()),
        ),
        (
            "links that lead round in a circle",
            Box::new(|m: &Path| symlink("var", m.join("var")).unwrap()),
        ),
        (
            "a file that is longer than all reason",
            Box::new(|m: &Path| {
                fs::create_dir_all(m.join("var/lib/dpkg")).unwrap();
                fs::File::create(m.join("var/lib/dpkg/status")).unwrap().set_len(1 << 40).unwrap();
            }),
        ),
    ];
    for (what, make) in tries {
        make(&machine);
        let found = found(&settings);
        let [root] = &found.roots[..] else { panic!("{what}: {found:?}") };
        assert_eq!((root.os.id.as_str(), root.packages.len()), ("debian", 0), "{what}");
        assert!(root.gaps[0].starts_with(PACKAGES_GAP), "{what}: {root:?}");
        let var = machine.join("var");
        let _ = if var.is_symlink() { fs::remove_file(var) } else { fs::remove_dir_all(var) };
    }
    // A link that stays within the root is followed, an absolute one too: so do its own processes.
    write(&machine, "real/dpkg/status", status("own", "1"));
    fs::create_dir_all(machine.join("var/lib")).unwrap();
    symlink("/real/dpkg", machine.join("var/lib/dpkg")).unwrap();
    assert_eq!(told(&found(&settings))[0].1, ["own 1"]);
    // The same for what says which system it is.
    fs::remove_file(machine.join("etc/os-release")).unwrap();
    symlink(outside.join("etc/os-release"), machine.join("etc/os-release")).unwrap();
    assert_eq!(found(&settings).roots, []);
}

#[test]
fn odd_names_and_versions_stay_behind_and_are_counted() {
    let (dir, settings) = host();
    let machine = dir.path().join("var/lib/machines/m");
    let long = "x".repeat(5000);
    write(
        &machine,
        "var/lib/dpkg/status",
        [
            status("good", "1"),
            status("b\u{202e}ad", "1"),
            status("bad", "1 2"),
            status(&long, "1"),
            status("apart", "1").replace("Version", "Source: a//b\nVersion"),
        ]
        .concat(),
    );
    write(&machine, "etc/os-release", format!("ID=debian\nPRETTY_NAME=\"{long}\u{7}\"\n"));
    write(&dir.path().join("var/lib/machines/odd name"), "etc/os-release", RELEASE);
    let found = found(&settings);
    assert_eq!(told(&found), [("nspawn:m  ".to_owned(), vec!["good 1".to_owned()])]);
    assert_eq!(found.roots[0].gaps, ["4 entries of its database name no package"]);
    assert_eq!(found.roots[0].os.pretty.len(), 128);
    assert_eq!(found.gaps, ["other roots: a nspawn with an odd name is not listed"]);
}

#[test]
fn where_a_bound_is_met_the_rest_is_told_as_a_gap() {
    let (dir, settings) = host();
    for name in ["a", "b", "c"] {
        let machine = dir.path().join("var/lib/machines").join(name);
        write(&machine, "etc/os-release", RELEASE);
        write(&machine, "var/lib/dpkg/status", [status("p", "1"), status("q", "1")].concat());
    }
    let with = |limits: Limits| {
        let found = installed(&settings, limits);
        (found.roots.len(), found.gaps.join("; "))
    };
    let usual = Limits::default();
    assert_eq!(with(usual), (3, String::new()));
    let more = "from nspawn:c on none is listed";
    assert_eq!(
        with(Limits { roots: 2, ..usual }),
        (2, format!("other roots: more than 2 roots; {more}"))
    );
    assert_eq!(
        with(Limits { packages: 4, ..usual }),
        (2, format!("other roots: more than 4 packages; {more}"))
    );
    assert_eq!(with(Limits { time: Duration::ZERO, ..usual }).0, 0);
    let small = installed(&settings, Limits { file: 100, ..usual });
    assert!(small.roots[0].gaps[0].contains("var/lib/dpkg/status is longer"), "{small:?}");
}

#[test]
fn a_place_that_cannot_be_read_is_a_gap_and_no_empty_root() {
    let (dir, settings) = host();
    let layers = docker(dir.path());
    // The layer is gone, the description is still there.
    fs::remove_dir_all(layers.join("base")).unwrap();
    let found = found(&settings);
    assert_eq!(found.roots, []);
    assert!(found.gaps[0].starts_with("other roots: docker:web: "), "{:?}", found.gaps);
    // One that containerd keeps, and that does not run.
    let data = dir.path().join("var/lib/docker");
    write(
        &data,
        &format!("containers/{ID}/config.v2.json"),
        r#"{"Name":"/web","Driver":"overlayfs","Config":{"Image":"x"}}"#,
    );
    let gaps = super::installed(&settings, Limits::default()).gaps;
    assert_eq!(
        gaps,
        ["other roots: docker:web: it does not run, and where it is stored is not known"]
    );
    if rustix::process::geteuid().is_root() {
        return;
    }
    fs::set_permissions(data.join("containers"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(!super::installed(&settings, Limits::default()).gaps.is_empty());
    fs::set_permissions(data.join("containers"), fs::Permissions::from_mode(0o700)).unwrap();
}
