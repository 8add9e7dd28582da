//! Against the real rpm: it makes the database, and it says what is in it.

use super::*;
use std::path::Path;
use std::process::Command;

const ALWAYS: fn() -> bool = || true;

fn read(bytes: &[u8], log: Option<&[u8]>) -> Result<Installed, RpmError> {
    parse(bytes, log, &mut ALWAYS.clone())
}

fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

fn ok(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Packages of which one has a header that takes many pages, one an epoch, one another source, one a module.
fn build(dir: &Path, number: usize) -> String {
    let long = "a line of a description\n".repeat(if number == 3 { 4000 } else { number });
    let epoch = if number.is_multiple_of(5) { "Epoch: 2\n" } else { "" };
    let module = if number == 7 { "ModularityLabel: nodejs:18:9020230301:rhel9\n" } else { "" };
    let spec = dir.join(format!("p{number}.spec"));
    std::fs::write(
        &spec,
        format!(
            "Name: p{number}\nVersion: 1.{number}~rc1\nRelease: {number}.el9\n{epoch}{module}Summary: s\nLicense: l\n\
             BuildArch: noarch\n%description\n{long}\n%package -n lib-of-{number}\nSummary: s\n\
             %description -n lib-of-{number}\nx\n%files\n%files -n lib-of-{number}\n"
        ),
    )
    .unwrap();
    let top = dir.join("build");
    ok(Command::new("rpmbuild")
        .arg("--quiet")
        .arg("-bb")
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg(&spec));
    top.join("RPMS/noarch").display().to_string()
}

/// What rpm itself says is installed.
fn queried(dir: &Path, backend: &str) -> Vec<Package> {
    let format = "%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\t%{SOURCERPM}\\t%{MODULARITYLABEL}\\n";
    let text = ok(Command::new("rpm").args(["-qa", "--dbpath"]).arg(dir).args([
        "--define",
        &format!("_db_backend {backend}"),
        "--qf",
        format,
    ]));
    let mut packages: Vec<Package> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, architecture, version, source, module] = fields[..] else {
                panic!("{line}")
            };
            let epoch = version.split_once(':').map_or(String::new(), |(e, _)| format!("{e}:"));
            let mut parts = source.strip_suffix(".src.rpm").unwrap().rsplitn(3, '-');
            let (release, its) = (parts.next().unwrap(), parts.next().unwrap());
            Package {
                name: name.into(),
                architecture: architecture.into(),
                version: version.into(),
                source: parts.next().unwrap().into(),
                source_version: format!("{epoch}{its}-{release}"),
                healthy: true,
                module: match module {
                    "(none)" => String::new(),
                    module => module.split(':').take(2).collect::<Vec<_>>().join(":"),
                },
            }
        })
        .collect();
    packages.sort();
    packages
}

#[test]
fn a_source_has_the_epoch_of_what_has_its_version_and_of_nothing_else() {
    let package = |name: &str, version: &str, source: &str, source_version: &str| Package {
        name: name.into(),
        architecture: "x86_64".into(),
        version: version.into(),
        source: source.into(),
        source_version: source_version.into(),
        healthy: true,
        module: String::new(),
    };
    let mut packages = vec![
        package("perl-Errno", "1.30-481.el9", "perl", "5.32.1-481.el9"),
        package("perl-Locale", "1:0.21-481.el9", "perl", "1:5.32.1-481.el9"),
        package("perl-libs", "4:5.32.1-481.el9", "perl", "4:5.32.1-481.el9"),
        // Of another build, and where nothing has the source's version.
        package("perl-IO", "1.43-480.el9", "perl", "5.32.1-480.el9"),
        package("device-mapper", "9:1.02.183-4.el9", "lvm2", "9:2.03.14-4.el9"),
        package("libdhash", "0.5.0-51.el9", "ding-libs", "0.6.1-51.el9"),
    ];
    epochs_of_sources(&mut packages);
    let versions: Vec<&str> = packages.iter().map(|p| &p.source_version[..]).collect();
    assert_eq!(
        versions,
        [
            "4:5.32.1-481.el9",
            "4:5.32.1-481.el9",
            "4:5.32.1-481.el9",
            "5.32.1-480.el9",
            "9:2.03.14-4.el9",
            "0.6.1-51.el9"
        ]
    );
    for (file, expected) in [
        ("openssl-3.0.7-24.el9.src.rpm", Some(("openssl", "3.0.7-24.el9"))),
        ("compat-libtiff3-3.9.4-13.el8.nosrc.rpm", Some(("compat-libtiff3", "3.9.4-13.el8"))),
        ("openssl", None),
        ("-1-1.src.rpm", None),
        ("a-1.src.rpm", None),
    ] {
        assert_eq!(source_of_file(file), expected, "{file}");
    }
}

#[test]
fn what_rpm_has_installed_is_read_as_rpm_itself_reads_it() {
    if !has("rpm") || !has("rpmbuild") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut packages = String::new();
    for number in 0..24 {
        packages = build(dir.path(), number);
    }
    let files: Vec<_> =
        std::fs::read_dir(&packages).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Debian's rpm is built for this form alone, and has to be told that its use is meant.
    let (backend, file) = ("sqlite", "rpmdb.sqlite");
    let meant = Path::new("/etc/debian_version").exists().then_some("--force-debian");
    let db = dir.path().join(backend);
    let rpm = |words: &[&str]| {
        let mut command = Command::new("rpm");
        command.arg("--dbpath").arg(&db).args(["--define", &format!("_db_backend {backend}")]);
        command.args(words);
        command
    };
    ok(&mut rpm(&["--initdb"]));
    let unasked = ["--justdb", "--nodeps", "--ignorearch", "--ignoreos"];
    ok(rpm(&["-i"]).args(unasked).args(meant).args(&files));
    ok(rpm(&["-e", "--justdb", "--nodeps", "lib-of-11"]).args(meant));
    let expected = queried(&db, backend);
    assert_eq!(expected.len(), 47);
    let bytes = std::fs::read(db.join(file)).unwrap();
    let log = std::fs::read(db.join(format!("{file}-wal"))).ok();
    let installed = read(&bytes, log.as_deref()).unwrap();
    assert_eq!((installed.packages, installed.left_out), (expected, 0), "{backend}");
    // Cut off anywhere it is refused, and never half a list.
    for end in (0..bytes.len()).step_by(997) {
        let cut = read(&bytes[..end], None);
        assert!(cut.is_err() || cut.unwrap().packages.len() <= 47, "{backend} {end}");
    }
}

#[test]
fn what_stands_in_the_write_ahead_log_alone_is_read_too() {
    if !has("sqlite3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rpmdb.sqlite");
    let header = |name: &str| {
        let bytes = header(&[(NAME, name), (VERSION, "1"), (RELEASE, "2"), (ARCH, "noarch")]);
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let copies = (dir.path().join("copy"), dir.path().join("copy-wal"));
    // The copies are made while the program has the database open, so that nothing was moved out of the log.
    let script = format!(
        "PRAGMA journal_mode=WAL;\nCREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL);\n\
         INSERT INTO Packages VALUES (1, x'{}');\nPRAGMA wal_checkpoint(TRUNCATE);\n\
         INSERT INTO Packages VALUES (2, x'{}');\nBEGIN;\nUPDATE Packages SET blob = x'{}' WHERE hnum = 1;\nCOMMIT;\n\
         .shell cp {file} {copy}; cp {file}-wal {log}\n",
        header("old"),
        header("late"),
        header("new"),
        file = file.display(),
        copy = copies.0.display(),
        log = copies.1.display(),
    );
    let path = dir.path().join("script");
    std::fs::write(&path, script).unwrap();
    ok(Command::new("sqlite3").arg(&file).arg(format!(".read {}", path.display())));
    let (bytes, log) = (std::fs::read(&copies.0).unwrap(), std::fs::read(&copies.1).unwrap());
    let names = |log: Option<&[u8]>| {
        let read = read(&bytes, log).unwrap().packages;
        read.into_iter().map(|p| p.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["old"]);
    assert_eq!(names(Some(&log)), ["late", "new"]);
    // A log that was cut off holds what was committed before the cut; a damaged one nothing after the damage.
    assert_eq!(names(Some(&log[..log.len() - 1])), ["late", "old"]);
    let mut damaged = log.clone();
    damaged[32 + 24 + 5] ^= 1;
    assert_eq!(names(Some(&damaged)), ["old"]);
}

/// A header of these names and values, all of them texts.
fn header(texts: &[(u32, &str)]) -> Vec<u8> {
    let data: Vec<u8> = texts.iter().flat_map(|(_, t)| t.bytes().chain([0])).collect();
    let mut header = Vec::new();
    header.extend((texts.len() as u32).to_be_bytes());
    header.extend((data.len() as u32).to_be_bytes());
    let mut at = 0;
    for (tag, text) in texts {
        for number in [*tag, 6, at, 1] {
            header.extend(number.to_be_bytes());
        }
        at += text.len() as u32 + 1;
    }
    header.extend(data);
    header
}

/// A database of ndb as rpm's lib/backend/ndb/rpmpkg.c writes it: head, slots, headers in blocks of 16 bytes.
fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(MAGIC_NDB);
    for number in [0_u32, 1, 1, headers.len() as u32 + 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.resize(4096, 0);
    for (place, header) in headers.iter().enumerate() {
        let (index, block) = (place as u32 + 1, file.len() as u32 / 16);
        // Slots from the end, as they come free.
        let slot = 4096 - 16 * (2 * place + 1);
        let blocks = (16 + header.len() + 12).div_ceil(16) as u32;
        for (i, part) in [*b"Slot", index.to_le_bytes(), block.to_le_bytes(), blocks.to_le_bytes()]
            .into_iter()
            .enumerate()
        {
            file[slot + 4 * i..slot + 4 * i + 4].copy_from_slice(&part);
        }
        for part in
            [*b"BlbS", index.to_le_bytes(), [1, 0, 0, 0], (header.len() as u32).to_le_bytes()]
        {
            file.extend(part);
        }
        file.extend(header);
        file.resize((block + blocks) as usize * 16, 0);
    }
    file
}

const MAGIC_NDB: &[u8] = b"RpmP";

#[test]
fn a_database_of_ndb_is_read_slot_by_slot() {
    let of = |name: &str, source: &str| {
        header(&[
            (NAME, name),
            (VERSION, "1.2"),
            (RELEASE, "3"),
            (ARCH, "x86_64"),
            (SOURCERPM, source),
        ])
    };
    let headers = [
        of("zlib", "zlib-1.2-3.src.rpm"),
        of("libz1", "zlib-1.2-3.nosrc.rpm"),
        header(&[(NAME, "gpg-pubkey"), (VERSION, "1"), (RELEASE, "1")]),
        of("odd", "nothing"),
        of("bad name", "zlib-1.2-3.src.rpm"),
    ];
    let file = ndb(&headers);
    let installed = read(&file, None).unwrap();
    let told: Vec<_> = installed
        .packages
        .iter()
        .map(|p| (p.name.as_str(), p.source.as_str(), p.source_version.as_str()))
        .collect();
    assert_eq!(
        told,
        [("libz1", "zlib", "1.2-3"), ("odd", "odd", "1.2-3"), ("zlib", "zlib", "1.2-3")]
    );
    assert_eq!(installed.left_out, 1);
    assert!(read(&file[..file.len() - 64], None).is_err());
}

/// One that was published as a test of others, where it is beside the checkout.
#[test]
fn a_real_database_of_berkeley_db_is_read() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/inventories/osv-scalibr-os-testdata.tar.zst");
    if !archive.exists() || !has("zstd") {
        println!("skipped: ../shared/data is not here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    ok(Command::new("tar").arg("-C").arg(dir.path()).arg("--zstd").arg("-xf").arg(&archive));
    let testdata = dir.path().join("scal/extractor/filesystem/os/rpm/testdata");
    let installed = read(&std::fs::read(testdata.join("Packages_epoch")).unwrap(), None).unwrap();
    let told: Vec<_> = installed
        .packages
        .iter()
        .map(|p| format!("{} {} {}", p.name, p.version, p.source))
        .collect();
    assert_eq!((told, installed.left_out), (vec!["hello 1:0.0.1-rls hello".to_owned()], 0));
    assert!(read(&std::fs::read(testdata.join("invalid")).unwrap(), None).is_err());
}

#[test]
fn what_the_fuzzer_begins_with_is_read() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/rpm_database");
    let names = |file: &str| {
        let bytes = std::fs::read(corpus.join(file)).unwrap();
        let at = bytes.windows(9).position(|w| w == b"LOG OF IT");
        let (file, log) =
            at.map_or((&bytes[..], None), |at| (&bytes[..at], Some(&bytes[at + 9..])));
        let read = read(file, log).unwrap();
        assert_eq!(read.left_out, 0);
        read.packages.into_iter().map(|p| p.name).collect::<Vec<_>>()
    };
    assert_eq!(names("berkeley-db"), ["zlib"]);
    assert_eq!(names("ndb"), ["libz1", "long", "zlib"]);
    assert_eq!(names("sqlite"), ["libz1", "long", "zlib"]);
    assert_eq!(names("sqlite-with-log"), ["libz1", "zlib"]);
}

#[test]
fn what_is_no_database_is_refused() {
    for bytes in [&b""[..], b"SQLite format 3\0", b"RpmP", &[0; 600], &[0xff; 600]] {
        assert!(read(bytes, None).is_err(), "{bytes:?}");
    }
}
