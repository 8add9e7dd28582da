use super::*;
use std::fs;
use std::io::Write as _;

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }
    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }
    fn find(&self, limits: Limits) -> Found {
        let settings = Settings { root: self.root.path().to_owned(), ..Settings::default() };
        installed(&settings, limits, Age::Now)
    }
    fn names(&self) -> Vec<String> {
        let found = self.find(Limits::default());
        assert!(found.gaps.is_empty(), "{:?}", found.gaps);
        let text = |p: &LanguagePackage| format!("{} {} {}", p.subject(), p.version, p.location);
        found.packages.iter().map(text).collect()
    }
}

fn python(name: &str, version: &str) -> String {
    format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nWhat it is.\n")
}

fn node(name: &str, version: &str) -> String {
    format!("{{\"name\": \"{name}\", \"version\": \"{version}\"}}")
}

fn pom(group: &str, artifact: &str, version: &str) -> String {
    format!("#Created by Apache Maven\nversion={version}\ngroupId={group}\nartifactId={artifact}\n")
}

/// A zip archive of these files, packed or as they are.
fn zip(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, pack) in files {
        let body = if *pack {
            let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        } else {
            bytes.to_vec()
        };
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(0u16.to_le_bytes());
        common.extend((if *pack { 8u16 } else { 0 }).to_le_bytes());
        common.extend([0; 8]); // time, date, checksum, which nobody here looks at
        common.extend((body.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(body);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}

#[test]
fn what_every_installer_left_is_found_where_it_is_installed_for_all() {
    let host = Host::new();
    let log4j = pom("org.apache.logging.log4j", "log4j-core", "2.14.1");
    let inner = zip(&[(
        "META-INF/maven/org.a/b/pom.properties",
        pom("org.a", "b", "1.0").as_bytes(),
        true,
    )]);
    host.write(
        "usr/local/lib/python3.11/dist-packages/Jinja2-3.1.2.dist-info/METADATA",
        python("Jinja2", "3.1.2"),
    )
    .write("usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO", python("six", "1.16.0"))
    .write("usr/lib/python3/dist-packages/old-1.egg-info", python("old", "1"))
    .write(
        "opt/app/venv/lib/python3.9/site-packages/requests-2.19.1.dist-info/METADATA",
        python("requests", "2.19.1"),
    )
    .write("usr/local/lib/node_modules/lodash/package.json", node("lodash", "4.17.20"))
    .write("usr/lib/node_modules/@babel/core/package.json", node("@babel/core", "7.0.0"))
    .write("opt/web/node_modules/a/node_modules/b/package.json", node("b", "1.0.0"))
    // No package: a directory of its sources.
    .write("opt/web/node_modules/a/lib/package.json", node("nothing", "1.0.0"))
    .write("opt/web/package.json", node("the-app-itself", "1.0.0"))
    .write(
        "var/lib/gems/3.1.0/specifications/rack-2.2.4.gemspec",
        "  s.name = \"rack\".freeze\n  s.version = \"2.2.4\"\n",
    )
    .write(
        "var/lib/gems/3.1.0/specifications/default/json-2.6.1.gemspec",
        "  s.name = \"json\"\n  s.version = \"2.6.1\"\n",
    )
    .write(
        &format!("{}/.crates2.json", walk::CARGO),
        r#"{"installs":{"ripgrep 13.0.0 (registry+https://git.example.org/crates.io-index)":{}}}"#,
    )
    .write(
        "opt/app/lib/app.jar",
        zip(&[
            ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\n", true),
            (
                "META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties",
                log4j.as_bytes(),
                true,
            ),
            ("BOOT-INF/lib/b-1.0.jar", &inner, false),
            ("BOOT-INF/lib/packed.jar", &inner, true),
        ]),
    );
    assert_eq!(
        host.names(),
        [
            &format!("cargo/ripgrep 13.0.0 /{}/.crates2.json", walk::CARGO),
            "gem/json 2.6.1 /var/lib/gems/3.1.0/specifications/default/json-2.6.1.gemspec",
            "gem/rack 2.2.4 /var/lib/gems/3.1.0/specifications/rack-2.2.4.gemspec",
            "maven/org.a:b 1.0 /opt/app/lib/app.jar!/BOOT-INF/lib/b-1.0.jar",
            "maven/org.a:b 1.0 /opt/app/lib/app.jar!/BOOT-INF/lib/packed.jar",
            "maven/org.apache.logging.log4j:log4j-core 2.14.1 /opt/app/lib/app.jar",
            "npm/@babel/core 7.0.0 /usr/lib/node_modules/@babel/core",
            "npm/b 1.0.0 /opt/web/node_modules/a/node_modules/b",
            "npm/lodash 4.17.20 /usr/local/lib/node_modules/lodash",
            "pypi/jinja2 3.1.2 /usr/local/lib/python3.11/dist-packages/Jinja2-3.1.2.dist-info",
            "pypi/old 1 /usr/lib/python3/dist-packages/old-1.egg-info",
            "pypi/requests 2.19.1 /opt/app/venv/lib/python3.9/site-packages/requests-2.19.1.dist-info",
            "pypi/six 1.16.0 /usr/lib/python3/dist-packages/six-1.16.0.egg-info",
        ]
    );
}

#[test]
fn what_a_package_of_the_distribution_owns_is_left_to_its_own_advisories() {
    let host = Host::new();
    host.write(
        "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA",
        python("PyYAML", "6.0"),
    )
    .write("usr/lib/python3/dist-packages/mine-1.0.dist-info/METADATA", python("mine", "1.0"))
    .write(
        "usr/share/java/own.jar",
        zip(&[("META-INF/maven/g/a/pom.properties", pom("g", "a", "1").as_bytes(), true)]),
    )
    .write(
        "var/lib/dpkg/info/python3-yaml:amd64.list",
        "/.\n/usr/lib/python3/dist-packages/PyYAML-6.0.dist-info\n\
             /usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA\n",
    )
    .write("var/lib/dpkg/info/libown-java.list", "/usr/share/java/own.jar\n");
    assert_eq!(host.names(), ["pypi/mine 1.0 /usr/lib/python3/dist-packages/mine-1.0.dist-info"]);
}

#[test]
fn links_pipes_and_metadata_beyond_reason_are_not_read() {
    let host = Host::new();
    host.write("home/somebody/evil/METADATA", python("evil", "1"));
    host.write("opt/a-1.dist-info/METADATA", vec![b'x'; 2 << 20]);
    host.write("opt/b-1.dist-info/METADATA", python("b\u{202e}", "1"));
    host.write("opt/c-1.dist-info/METADATA", python(&"c".repeat(300), "1"));
    let opt = host.root.path().join("opt");
    let evil = host.root.path().join("home/somebody/evil");
    std::os::unix::fs::symlink(&evil, opt.join("evil-1.dist-info")).unwrap();
    fs::create_dir(opt.join("d-1.dist-info")).unwrap();
    std::os::unix::fs::symlink(evil.join("METADATA"), opt.join("d-1.dist-info/METADATA")).unwrap();
    fs::create_dir(opt.join("e-1.dist-info")).unwrap();
    let pipe = opt.join("e-1.dist-info/METADATA");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert!(host.names().is_empty());
}

#[test]
fn a_bound_that_is_met_is_told_and_what_was_found_stands() {
    let host = Host::new();
    for n in 0..40 {
        host.write(&format!("opt/p{n:02}-1.dist-info/METADATA"), python(&format!("p{n:02}"), "1"));
    }
    let found = host.find(Limits { packages: 10, ..Limits::default() });
    assert_eq!(found.packages.len(), 10);
    assert_eq!(found.gaps, ["packages of languages: 40 are installed, and the first 10 listed"]);
    let found = host.find(Limits { entries: 20, ..Limits::default() });
    assert_eq!(
        found.gaps,
        ["packages of languages: more than 20 files to look at; the rest is not listed"]
    );
    let found = host.find(Limits { time: Duration::ZERO, ..Limits::default() });
    assert!(found.packages.is_empty());
    assert_eq!(
        found.gaps,
        ["packages of languages: looking took more than 0 s; the rest is not listed"]
    );
}

#[test]
fn an_archive_that_is_broken_anywhere_is_passed_over() {
    let host = Host::new();
    let said = pom("g", "a", "1");
    let whole = zip(&[
        ("META-INF/maven/g/a/pom.properties", said.as_bytes(), true),
        ("x.jar", b"no archive", false),
    ]);
    let jar = |bytes: &[u8]| {
        host.write("opt/a.jar", bytes);
        host.names().len()
    };
    assert_eq!(jar(&whole), 1);
    // A program in front, as self-starting archives have it.
    assert_eq!(jar(&[b"#!/bin/sh\nexec java -jar $0\n", whole.as_slice()].concat()), 1);
    for cut in 0..whole.len() {
        jar(&whole[..cut]);
    }
    for at in 0..whole.len() {
        let mut spoilt = whole.clone();
        spoilt[at] = 0xff;
        jar(&spoilt);
    }
    // A little that unpacks to much.
    let bomb = zip(&[("META-INF/maven/g/a/pom.properties", &vec![b'\n'; 8 << 20], true)]);
    assert!(bomb.len() < 20_000);
    assert_eq!(jar(&bomb), 0);
}
