use super::*;

const STATUS: &str = "\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.15-1)
Version: 3.0.15-1~deb12u1
Description: x
 with: a continuation that looks like a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: half
Status: install ok half-configured
Architecture: all
Version: 2.0


Package: kept
Status: hold ok installed
Architecture: amd64
Version: 1:3.0-1+b1
";

#[test]
fn installed_packages_are_read_with_source_and_health_and_removed_ones_are_not() {
    let packages = parse_status(STATUS.as_bytes());
    let short: Vec<_> = packages
        .iter()
        .map(|p| (p.name.as_str(), p.source.as_str(), p.source_version.as_str(), p.healthy))
        .collect();
    assert_eq!(
        short,
        [
            ("half", "half", "2.0", false),
            ("kept", "kept", "1:3.0-1+b1", true),
            ("libssl3", "openssl", "3.0.15-1", true),
        ]
    );
}

#[test]
fn odd_bytes_and_torn_files_are_read_as_far_as_they_go() {
    for text in
        [&b""[..], b"\n\n\n", b"Package", b"Package: x", b"\xff\xfe\0\nPackage: y\n", b": \n :\n"]
    {
        assert!(parse_status(text).is_empty(), "{text:?}");
    }
    for cut in 0..STATUS.len() {
        assert!(parse_status(&STATUS.as_bytes()[..cut]).len() <= 3);
    }
}

#[test]
fn a_status_file_that_ends_within_a_record_says_in_which_and_a_journal_does_not() {
    let whole = format!("{STATUS}\n");
    assert_eq!(Status::parse(whole.as_bytes()).cut_at, None);
    assert_eq!(Status::parse(whole.as_bytes()).records, 4);
    assert_eq!(Status::parse(b"").cut_at, None);
    let root = tempfile::tempdir().unwrap();
    let kept = STATUS.find("Package: kept").unwrap() + "Package: kept".len();
    for end in kept..whole.len() {
        let cut = &whole.as_bytes()[..end];
        assert_eq!(Status::parse(cut).cut_at.as_deref(), Some("kept"), "{end}");
        std::fs::write(root.path().join("status"), cut).unwrap();
        assert_eq!(Database::read(root.path()).unwrap().cut_at.as_deref(), Some("kept"), "{end}");
    }
    std::fs::write(root.path().join("status"), &whole).unwrap();
    std::fs::create_dir(root.path().join("updates")).unwrap();
    let update = "Package: kept\nStatus: install ok installed\nVersion: 4\n";
    std::fs::write(root.path().join("updates/0000"), update).unwrap();
    let read = Database::read(root.path()).unwrap();
    assert_eq!((read.cut_at, read.unmerged), (None, 1));
}

#[test]
fn however_a_database_arrives_in_pieces_it_is_read_the_same_and_the_later_word_counts() {
    let root = tempfile::tempdir().unwrap();
    let updates = root.path().join("updates");
    std::fs::create_dir_all(&updates).unwrap();
    // Paragraphs of every length around the buffer's, one of them far longer than it.
    let mut status = String::new();
    for i in 0..400 {
        let long = "x".repeat(if i == 200 { 300_000 } else { i * 7 });
        status += &format!(
            "Package: p{i:03}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {i}\nDescription: d\n {long}\n\n"
        );
    }
    std::fs::write(root.path().join("status"), &status).unwrap();
    let update = |state: &str| {
        format!("Package: p007\nStatus: hold ok {state}\nArchitecture: amd64\nVersion: 8\n")
    };
    std::fs::write(updates.join("0000"), update("half-configured")).unwrap();
    let read = Database::read(root.path()).unwrap();
    let mut whole = parse_status(format!("{status}{}", update("half-configured")).as_bytes());
    assert_eq!((read.packages.len(), &read.packages, read.unmerged), (400, &whole, 1));
    assert_eq!(read.packages[7].version, "8");
    assert_eq!(read.held, ["p007"]);
    std::fs::write(updates.join("0001"), update("not-installed")).unwrap();
    whole.remove(7);
    assert_eq!(Database::read(root.path()).unwrap().packages, whole);
}

#[test]
fn the_database_of_a_real_machine_is_read_as_dpkg_query_reads_it() {
    let data =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/inventories");
    let status = data.join("builder-bookworm.dpkg-status.zst");
    let (true, Ok(zstd)) =
        (status.exists(), std::process::Command::new("zstd").arg("-dc").arg(&status).output())
    else {
        println!("skipped: ../shared/data or zstd is not here");
        return;
    };
    let table = std::fs::read_to_string(data.join("builder-bookworm.dpkg-query.tsv")).unwrap();
    let packages = parse_status(&zstd.stdout);
    assert!(packages.len() > 700, "{}", packages.len());
    for package in &packages {
        let line = table.lines().find(|l| {
            let mut fields = l.split('\t');
            let name = fields.next().unwrap_or_default();
            name.split(':').next() == Some(&package.name) && l.contains(&package.architecture)
        });
        let line = line.unwrap_or_else(|| panic!("{} is not in the table", package.name));
        assert!(line.split('\t').any(|f| f == package.version), "{line}");
    }
}
