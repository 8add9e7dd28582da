use super::*;

#[test]
fn needs_and_loader_of_a_program_are_read_from_its_dynamic_section() {
    let elf = read_elf(&std::env::current_exe().unwrap()).unwrap();
    assert!(elf.needed.iter().any(|n| n.starts_with("libc.so")), "{elf:?}");
    assert!(elf.interpreter.as_ref().is_some_and(|i| i.contains("ld-linux")), "{elf:?}");
    assert_eq!(elf.soname, None);
}

#[test]
fn what_is_cut_off_or_damaged_is_no_elf_file_and_nothing_breaks_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = ["/bin/true", "/usr/bin/true"].iter().find_map(|p| fs::read(p).ok()).unwrap();
    let path = dir.path().join("cut");
    for length in [0, 3, 63, 64, 100, 500] {
        fs::write(&path, &source[..length]).unwrap();
        assert_eq!(read_elf(&path), None, "{length} bytes");
    }
    // Every byte of head and tables, wrong in three ways: what comes of it does not matter, that it ends does.
    let mut bytes = source.clone();
    for at in (0..source.len().min(6000)).step_by(7) {
        for wrong in [0, 0x7f, 0xff] {
            bytes[at] = wrong;
            fs::write(&path, &bytes).unwrap();
            if let Some(reader) = Reader::open(&path) {
                let _ = (reader.elf(), reader.symbols());
            }
        }
        bytes[at] = source[at];
    }
}

/// A library of a file that has as much as is read of it: one section to load, the dynamic section, names, symbols.
/// `big` and `wide` as the file's own head says.
fn written(wide: bool, big: bool) -> Vec<u8> {
    let number = |value: u64, bytes: usize| -> Vec<u8> {
        let all = value.to_le_bytes();
        if big { all[..bytes].iter().rev().copied().collect() } else { all[..bytes].to_vec() }
    };
    let (half, word) = (|value| number(value, 2), |value| number(value, 4));
    let long = |value| number(value, if wide { 8 } else { 4 });
    let strings = b"\0libdep.so.1\0libself.so.2\0wanted\0offered\0$ORIGIN\0".to_vec();
    let at = |name: &str| {
        let text = String::from_utf8(strings.clone()).unwrap();
        text.find(&format!("\0{name}\0")).unwrap() as u64 + 1
    };
    // All addresses are offsets: the file is loaded as it is.
    let (head, entry) = if wide { (64, 56) } else { (52, 32) };
    let symbols_at = head + 2 * entry;
    let symbol = |name: u64, defined: bool| -> Vec<u8> {
        let (info, section) = (vec![1 << 4], half(u64::from(defined)));
        if wide {
            [word(name), info, vec![0], section, long(0), long(0)].concat()
        } else {
            [word(name), long(0), long(0), info, vec![0], section].concat()
        }
    };
    let symbols =
        [symbol(0, false), symbol(at("wanted"), false), symbol(at("offered"), true)].concat();
    let strings_at = symbols_at + symbols.len() as u64;
    let dynamic_at = strings_at + strings.len() as u64;
    let dynamic: Vec<u8> = [
        (5, strings_at),
        (10, strings.len() as u64),
        (6, symbols_at),
        (1, at("libdep.so.1")),
        (14, at("libself.so.2")),
        (29, at("$ORIGIN")),
        (0, 0),
    ]
    .into_iter()
    .flat_map(|(tag, value)| [long(tag), long(value)].concat())
    .collect();
    let all = dynamic_at + dynamic.len() as u64;
    let segment = |kind: u64, offset: u64, length: u64| -> Vec<u8> {
        let (kind, flags) = (word(kind), word(4));
        let rest = [long(offset), long(offset), long(offset), long(length), long(length)].concat();
        if wide {
            [kind, flags, rest, long(8)].concat()
        } else {
            [kind, rest, flags, long(4)].concat()
        }
    };
    let ident = [b"\x7fELF".to_vec(), vec![1 + u8::from(wide), 1 + u8::from(big), 1], vec![0; 9]];
    let head: Vec<u8> = [
        ident.concat(),
        half(3),
        half(22),
        word(1),
        long(0),
        long(head),
        long(0),
        word(0),
        half(head),
        half(entry),
        half(2),
        half(0),
        half(0),
        half(0),
    ]
    .concat();
    let load = segment(1, 0, all);
    [head, load, segment(2, dynamic_at, dynamic.len() as u64), symbols, strings, dynamic].concat()
}

#[test]
fn files_of_either_width_and_either_byte_order_are_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
        let path = dir.path().join("library");
        fs::write(&path, written(wide, big)).unwrap();
        let reader = Reader::open(&path).unwrap_or_else(|| panic!("wide {wide}, big {big}"));
        let elf = reader.elf().unwrap();
        assert_eq!(elf.machine, 22 | u32::from(wide) << 16, "wide {wide}, big {big}");
        assert_eq!(elf.needed, ["libdep.so.1"], "wide {wide}, big {big}");
        assert_eq!(elf.soname.as_deref(), Some("libself.so.2"));
        assert_eq!(elf.runpath.as_deref(), Some("$ORIGIN"));
        let symbols = reader.symbols().unwrap();
        let wanted: Vec<String> = symbols.undefined.iter().map(|w| symbols.name(w)).collect();
        assert_eq!(wanted, ["wanted"], "wide {wide}, big {big}");
        assert!(!symbols.has(&symbols.undefined[0]), "what it wants it does not have");
    }
}

#[test]
fn a_library_of_32_bit_that_a_compiler_made_offers_and_wants_what_its_code_says() {
    let Some(built) = Built::new() else { return println!("skipped: no gcc here") };
    let code = "int outside(void); int offered(void) { return outside(); }";
    fs::write(built.0.path().join("l.c"), code).unwrap();
    let mut gcc = command("gcc");
    let arguments = [
        "-m32",
        "-shared",
        "-nostdlib",
        "-fPIC",
        "-Wl,-soname,libs.so.3",
        "-o",
        "libs.so.3",
        "l.c",
    ];
    let output = command::run(gcc.args(arguments).current_dir(built.0.path()), None).unwrap();
    if !output.success() {
        return println!("skipped: this compiler makes nothing of 32 bit: {}", output.text);
    }
    let reader = Reader::open(&built.0.path().join("libs.so.3")).unwrap();
    assert_eq!(reader.elf().unwrap().soname.as_deref(), Some("libs.so.3"));
    let symbols = reader.symbols().unwrap();
    let wanted: Vec<String> = symbols.undefined.iter().map(|w| symbols.name(w)).collect();
    assert!(wanted.contains(&"outside".to_owned()), "{wanted:?}");
    assert!(!wanted.contains(&"offered".to_owned()), "{wanted:?}");
}

/// In words.
fn in_words(missing: Option<Missing>) -> Option<String> {
    let missing = missing?;
    if missing.library.is_empty() { words(missing.symbols.iter()) } else { Some(missing.library) }
}

#[test]
fn a_program_whose_library_is_missing_is_found_and_a_sound_one_is_not() {
    let own = std::env::current_exe().unwrap();
    let mut system = System::of_host();
    assert_eq!(complaint(&own, LOADS), Ok(None));
    assert_eq!(system.missing(&own, &read_elf(&own).unwrap(), &[]), None);
    // The same program, needing a library that nobody has.
    let mut bytes = fs::read(&own).unwrap();
    let at = memchr::memmem::find(&bytes, b"libc.so.6\0").unwrap();
    bytes[at..at + 4].copy_from_slice(b"libz");
    bytes[at + 4] = b'_';
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken");
    fs::write(&path, bytes).unwrap();
    let said = complaint(&path, LOADS).unwrap().unwrap();
    assert!(said.iter().any(|line| line.contains("libz_so.6")), "{said:?}");
    assert_eq!(
        in_words(system.missing(&path, &read_elf(&path).unwrap(), &[])),
        Some("libz_so.6 is not there".into())
    );
}

#[test]
fn the_loader_finds_no_fault_where_none_is_found_here_and_the_other_way_round() {
    let mut system = System::of_host();
    let mut compared = 0;
    for path in walk(&[Path::new("/usr/bin"), Path::new("/usr/sbin")], ENTRIES).files {
        let Some(elf) = read_elf(&path).filter(|e| e.interpreter.is_some()) else { continue };
        let (own, loader) = (system.missing(&path, &elf, &[]), complaint(&path, LOADS).unwrap());
        assert_eq!(own.is_some(), loader.is_some(), "{}: {own:?} {loader:?}", path.display());
        compared += 1;
        if compared == 250 {
            break;
        }
    }
    assert!(compared > 20, "{compared} programs");
}

/// Builds a library and something that uses it, with what C compiler there is. `None`: there is none.
struct Built(tempfile::TempDir);

impl Built {
    fn new() -> Option<Self> {
        command::find(Path::new("/"), "gcc")?;
        Some(Self(tempfile::tempdir().unwrap()))
    }
    fn library(&self, code: &str, versions: &str) {
        let dir = self.0.path();
        fs::write(dir.join("l.c"), code).unwrap();
        fs::write(dir.join("l.map"), versions).unwrap();
        let mut arguments =
            vec!["-shared", "-fPIC", "-Wl,-soname,libfettle.so.1", "-o", "libfettle.so.1", "l.c"];
        if !versions.is_empty() {
            arguments.push("-Wl,--version-script,l.map");
        }
        self.compile(&arguments);
    }
    fn compile(&self, arguments: &[&str]) {
        let mut gcc = command("gcc");
        let output = command::run(gcc.args(arguments).current_dir(self.0.path()), None).unwrap();
        assert!(output.success(), "{}", output.text);
    }
    fn program(&self) {
        fs::write(
            self.0.path().join("p.c"),
            "int one(void); int two(void); int main(void) { return one() + two(); }",
        )
        .unwrap();
        self.compile(&["-o", "program", "p.c", "libfettle.so.1", "-Wl,-rpath,$ORIGIN"]);
    }
    /// What is found, and what the loader says of the same.
    fn missing(&self) -> (Option<String>, Option<BTreeSet<String>>) {
        let path = self.0.path().join("program");
        let elf = read_elf(&path).unwrap();
        assert_eq!(elf.runpath.as_deref(), Some("$ORIGIN"));
        (in_words(System::of_host().missing(&path, &elf, &[])), complaint(&path, LOADS).unwrap())
    }
}

#[test]
fn a_symbol_or_a_version_that_a_new_library_lacks_is_told() {
    let Some(built) = Built::new() else {
        eprintln!("skipped: no C compiler here");
        return;
    };
    let both = "int one(void) { return 1; } int two(void) { return 2; }";
    let one = "int one(void) { return 1; }";
    let plain = "FETTLE_1 { global: one; two; local: *; };";
    built.library(both, plain);
    built.program();
    assert_eq!(built.missing(), (None, None));
    for (code, versions, said) in [
        (one, "FETTLE_1 { global: one; local: *; };", "symbol two@FETTLE_1 is not there"),
        (
            both,
            "FETTLE_2 { global: one; two; local: *; };",
            "libfettle.so.1 has no version FETTLE_1",
        ),
        (
            both,
            "FETTLE_1 { global: one; }; FETTLE_2 { global: two; };",
            "symbol two@FETTLE_1 is not there",
        ),
        (one, "", "symbol two@FETTLE_1 is not there"),
    ] {
        built.library(code, versions);
        let (own, loader) = built.missing();
        assert_eq!(own.as_deref(), Some(said));
        assert!(loader.is_some(), "the loader is content where {said}");
    }
    // A library without any version serves whoever asks for one; the loader only warns.
    built.library(both, "");
    assert_eq!(built.missing().0, None);
    fs::remove_file(built.0.path().join("libfettle.so.1")).unwrap();
    assert_eq!(built.missing().0.as_deref(), Some("libfettle.so.1 is not there"));
}

#[test]
fn whoever_needs_a_changed_library_is_looked_at_and_nobody_else() {
    let Some(built) = Built::new() else {
        eprintln!("skipped: no C compiler here");
        return;
    };
    built.library("int one(void) { return 1; } int two(void) { return 2; }", "");
    built.program();
    let other = built.0.path().join("other");
    fs::copy("/bin/true", &other).unwrap();
    let files = walk(&[built.0.path()], ENTRIES).files;
    assert_eq!(files.len(), 3);
    let later = Instant::now() + Duration::from_secs(60);
    let own = BTreeSet::from([built.0.path().join("libfettle.so.1")]);
    let before = System::of_host().check(&files, &own, &BTreeSet::new(), later);
    assert_eq!((before.met, before.looked_at), (3, 2), "{before:?}");
    assert_eq!(before.sonames, BTreeSet::from(["libfettle.so.1".to_owned()]));
    assert!(before.unresolved.is_empty());
    // The new package has no such library any more: what it was called before must still be watched for.
    fs::remove_file(built.0.path().join("libfettle.so.1")).unwrap();
    let files = walk(&[built.0.path()], ENTRIES).files;
    let after = System::of_host().check(&files, &BTreeSet::new(), &before.sonames, later);
    let program = built.0.path().join("program").to_string_lossy().into_owned();
    let lost = BTreeMap::from([(program, "libfettle.so.1 is not there".to_owned())]);
    assert_eq!(newly_missing(&before.unresolved, &after.unresolved, |_| false, &[]).0, lost);
    assert!(newly_missing(&after.unresolved, &after.unresolved, |_| false, &[]).0.is_empty());
    // Without time nothing is claimed to have been looked at.
    let none = System::of_host().check(&files, &BTreeSet::new(), &before.sonames, Instant::now());
    assert_eq!((none.looked_at, none.unseen.len()), (0, 1));
    assert!(none.note().contains("1 could not be looked at"));
    let (lost, _) = unchecked(&before, &none, &[]);
    assert_eq!(lost, none.unseen, "and it is not called sound");
}

#[test]
fn what_a_bound_or_an_error_kept_from_being_looked_at_is_not_called_sound_unless_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("deep")).unwrap();
    for n in 0..20 {
        fs::write(dir.path().join(format!("lib{n}.so")), "").unwrap();
    }
    assert!(walk(&[dir.path()], 21).unseen.is_empty());
    let cut = walk(&[dir.path()], 20).unseen;
    let name = dir.path().to_string_lossy().into_owned();
    assert!(cut[&name].contains("more than 20"), "{cut:?}");
    let of = |unseen: &[&str], closed: &[&str]| {
        let map = |paths: &[&str]| paths.iter().map(|p| ((*p).to_owned(), "why".into())).collect();
        Resolution { unseen: map(unseen), closed: map(closed), ..Resolution::default() }
    };
    let names =
        |(lost, _): &(BTreeMap<String, String>, _)| lost.keys().cloned().collect::<Vec<_>>();
    // What could not be read before either is not the change's fault; a bound is no excuse.
    let (before, after) = (of(&["/opt/a"], &["/opt/b"]), of(&["/opt/a"], &["/opt/b", "/opt/c"]));
    assert_eq!(names(&unchecked(&before, &after, &[])), ["/opt/a", "/opt/c"]);
    let accept = |symbol: &str, file: &str| {
        [MissingSymbol { symbol: symbol.to_owned(), file: file.to_owned() }]
    };
    let told = unchecked(&before, &after, &accept("*", "/opt/a"));
    assert_eq!((names(&told), told.1), (vec!["/opt/c".to_owned()], vec!["/opt/a: why".to_owned()]));
    // Who accepts one symbol has not accepted that nobody looks.
    assert_eq!(names(&unchecked(&before, &after, &accept("one", "*"))).len(), 2);
}

#[test]
fn a_loader_that_gives_no_answer_is_not_taken_for_one_that_has_no_complaint() {
    let own = std::env::current_exe().unwrap();
    let said = complaint(&own, Duration::ZERO).unwrap_err();
    assert_eq!(said, "its loader: no answer in time");
}

#[test]
fn a_plug_in_may_use_more_of_the_program_that_loads_it_and_nothing_that_is_nowhere() {
    let Some(built) = Built::new() else {
        eprintln!("skipped: no C compiler here");
        return;
    };
    // The program exports `one` and `two` to its plug-in, which is linked to neither.
    let plug_in = |code: &str| {
        fs::write(built.0.path().join("m.c"), code).unwrap();
        built.compile(&["-shared", "-fPIC", "-o", "plug-in.so", "m.c"]);
    };
    // It brings `four` with its library.
    built.library("int four(void) { return 4; }", "");
    let program = "int four(void); int one(void) { return 1; } int two(void) { return 2; } \
                   int main(void) { return four(); }";
    fs::write(built.0.path().join("h.c"), program).unwrap();
    built.compile(&["-rdynamic", "-o", "program", "h.c", "libfettle.so.1", "-Wl,-rpath,$ORIGIN"]);
    let own: BTreeSet<PathBuf> =
        ["program", "plug-in.so"].map(|name| built.0.path().join(name)).into();
    let look = || {
        let later = Instant::now() + Duration::from_secs(60);
        System::of_host().check(&[], &own, &BTreeSet::new(), later).unresolved
    };
    plug_in("int one(void); int f(void) { return one(); }");
    let before = look();
    assert_eq!(before.len(), 1, "{before:?}");
    plug_in("int one(void), two(void), four(void); int f(void) { return one() + two() + four(); }");
    assert_eq!(newly_missing(&before, &look(), |_| false, &[]).0, BTreeMap::new());
    plug_in("int one(void), three(void); int f(void) { return one() + three(); }");
    let path = built.0.path().join("plug-in.so").to_string_lossy().into_owned();
    let lost = BTreeMap::from([(path, "symbol three is not there".to_owned())]);
    assert_eq!(newly_missing(&before, &look(), |_| false, &[]).0, lost);
    // Unless the order lets this one lack it.
    let accept = |symbol: &str, file: &str| {
        let accepted = [MissingSymbol { symbol: symbol.into(), file: file.into() }];
        newly_missing(&before, &look(), |_| false, &accepted)
    };
    let let_pass = vec![format!("{}: three", lost.keys().next().unwrap())];
    assert_eq!(accept("three", "*/plug-in.so"), (BTreeMap::new(), let_pass));
    assert_eq!(accept("three", "*/other.so"), (lost.clone(), vec![]));
    assert_eq!(accept("four", "*"), (lost.clone(), vec![]));
    // One that is new is judged alike; one that lacked nothing before is no plug-in.
    assert_eq!(newly_missing(&BTreeMap::new(), &look(), |_| true, &[]).0, lost);
    plug_in("int one(void); int f(void) { return one(); }");
    assert_eq!(newly_missing(&BTreeMap::new(), &look(), |_| false, &[]).0.len(), 1);
}

#[test]
fn every_user_of_the_c_library_of_this_machine_is_looked_at_in_bounded_time() {
    let begun = Instant::now();
    let watched = BTreeSet::from(["libc.so.6".to_owned()]);
    let found = check(&[], &[], &watched);
    eprintln!("{}", found.note());
    assert!(found.looked_at > 100, "{}", found.note());
    assert_eq!(found.unseen, BTreeMap::new());
    // A program that is broken on this machine is not what is asked here, but most must be sound.
    assert!(found.unresolved.len() * 4 < found.looked_at, "{:?}", found.unresolved);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn the_loader_is_never_one_that_a_program_brings_and_the_program_never_one_that_users_can_write() {
    for (path, system) in [
        ("/lib64/ld-linux-x86-64.so.2", true),
        ("/lib/ld-linux-aarch64.so.1", true),
        ("/lib/ld-musl-x86_64.so.1", false),
        ("/home/me/ld-linux-x86-64.so.2", false),
        ("/lib64/../home/me/ld-linux.so", false),
        ("ld-linux-x86-64.so.2", false),
    ] {
        assert_eq!(is_system_loader(path), system, "{path}");
    }
    assert!(roots_alone(Path::new("/usr/bin")));
    // Below a directory that everybody can write to.
    let dir = tempfile::tempdir().unwrap();
    assert!(!roots_alone(dir.path()));
}
