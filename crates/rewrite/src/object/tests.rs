use super::*;
use object::{Object as _, ObjectSection as _};
use proptest::prelude::*;
use rkcov_abi::sites::{find, Site, Store};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder, and files made in it by the system's compiler.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        let output = command.args(args).current_dir(self.0.path()).output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The object that comes of this assembly.
    fn assemble(&self, text: &str) -> Vec<u8> {
        self.write("code.s", text);
        self.run("cc", &["-c", "code.s", "-o", "code.o"]);
        fs::read(self.path("code.o")).unwrap()
    }
}

const PLT: &str = "call __sanitizer_cov_trace_pc_guard@PLT";
const GOT: &str = "call *__sanitizer_cov_trace_pc_guard@GOTPCREL(%rip)";

/// A section of code, and one of `guards` guards.
fn assembly(code: &str, guards: usize) -> String {
    format!(
        ".text\n.globl work\n.type work,@function\nwork:\nsub $8,%rsp\n{code}\nadd $8,%rsp\nret\n.size work,.-work\n\
         .section __sancov_guards,\"aw\",@progbits\n.globl guards\nguards:\n.Lguards:\n.zero {}\n\
         .section .note.GNU-stack,\"\",@progbits\n",
        4 * guards
    )
}

fn lea(guard: usize) -> String {
    format!("lea .Lguards+{}(%rip), %rdi", 4 * guard)
}

/// As without optimization: with an operand of four bytes for odd guards.
fn lea_and_add(guard: usize) -> String {
    let offset = 4 * guard;
    let add = match guard % 2 {
        0 => format!("add ${offset}, %rdi"),
        _ => format!(".byte 0x48, 0x81, 0xc7\n.long {offset}"),
    };
    format!("{}\n{add}", lea(0))
}

fn counts(stores: usize, calls: usize) -> Counts {
    Counts { stores, calls }
}

fn text(object: &[u8]) -> Vec<u8> {
    let object = object::File::parse(object).unwrap();
    object
        .section_by_name(".text")
        .unwrap()
        .data()
        .unwrap()
        .to_vec()
}

#[test]
fn pairs_become_stores_of_the_same_length() {
    let made = Made::new();
    let code = [lea(0).as_str(), PLT, &lea(3), GOT].join("\n");
    let before = made.assemble(&assembly(&code, 4));
    let mut after = before.clone();
    assert_eq!(rewrite(&mut after), counts(2, 0));
    assert_eq!(before.len(), after.len());
    let text = text(&after);
    let stores: Vec<_> = find(&text, 0).collect();
    let [Site::Store(short), Site::Store(long)] = stores[..] else {
        panic!("{stores:?}");
    };
    assert_eq!((short.at, short.size, long.at, long.size), (4, 12, 16, 13));
    // Once more finds nothing.
    let once = after.clone();
    assert_eq!(rewrite(&mut after), counts(0, 0));
    assert!(once == after);
}

#[test]
fn stores_go_into_the_guards_that_the_calls_had() {
    let made = Made::new();
    let optimized = [lea(0).as_str(), PLT, &lea(2), GOT].join("\n");
    let not = [
        &lea_and_add(4),
        PLT,
        &lea_and_add(5),
        GOT,
        &lea_and_add(7),
        PLT,
    ]
    .join("\n");
    let call = [lea(3).as_str(), "nop", PLT].join("\n");
    let code = [optimized, not, call].join("\n");
    let mut object = made.assemble(&assembly(&code, 8));
    assert_eq!(rewrite(&mut object), counts(5, 1));
    made.write("code.o", &object);
    made.write(
        "main.c",
        "#include <stdio.h>\n\
         extern unsigned guards[8];\n\
         void work(void);\n\
         void __sanitizer_cov_trace_pc_store(unsigned *guard) { *guard = 7; }\n\
         int main(void) { work(); for (int n = 0; n < 8; n++) printf(\"%u\", guards[n]); }\n",
    );
    for how in [&["-pie"][..], &["-no-pie"], &["-static"]] {
        made.run("cc", &[&["main.c", "code.o", "-o", "main"], how].concat());
        assert_eq!(made.run("./main", &[]), "10171101", "{how:?}");
    }
}

#[test]
fn a_store_is_called_again() {
    let made = Made::new();
    let code = [lea(1).as_str(), PLT, &lea(2), GOT].join("\n");
    let mut object = made.assemble(&assembly(&code, 4));
    assert_eq!(rewrite(&mut object), counts(2, 0));
    made.write("code.o", &object);
    made.write(
        "main.c",
        "#include <stdio.h>\n\
         extern unsigned guards[4];\n\
         void work(void);\n\
         void __sanitizer_cov_trace_pc_store(unsigned *guard) { *guard += 5; }\n\
         int main(void) { work(); printf(\"%u %u %u %u\\n\", guards[0], guards[1], guards[2], guards[3]); }\n",
    );
    made.run("cc", &["-no-pie", "main.c", "code.o", "-o", "main"]);
    assert_eq!(made.run("./main", &[]), "0 1 1 0\n");
    // As at start, but in the file.
    let mut file = fs::read(made.path("main")).unwrap();
    let (callback, stores) = {
        let program = object::File::parse(&*file).unwrap();
        let address = |name: &str| {
            use object::ObjectSymbol as _;
            let symbol = program.symbol_by_name(name).unwrap();
            symbol.address()
        };
        let guards = address("guards")..address("guards") + 16;
        let text = program.section_by_name(".text").unwrap();
        let offset = text.file_range().unwrap().0.wrapping_sub(text.address());
        let stores: Vec<(u64, Store)> = find(text.data().unwrap(), text.address())
            .filter_map(|site| match site {
                Site::Store(store) if guards.contains(&store.guard) => {
                    Some((store.at.wrapping_add(offset), store))
                }
                _ => None,
            })
            .collect();
        (address("__sanitizer_cov_trace_pc_store"), stores)
    };
    assert_eq!(stores.len(), 2);
    for (offset, store) in stores {
        let bytes = store.call(callback).unwrap();
        let offset = usize::try_from(offset).unwrap();
        file[offset..offset + store.size].copy_from_slice(&bytes[..store.size]);
    }
    fs::write(made.path("main"), file).unwrap();
    assert_eq!(made.run("./main", &[]), "0 5 5 0\n");
}

#[test]
fn what_is_no_pair_stays_a_call() {
    let made = Made::new();
    let other = "lea other(%rip), %rdi";
    let beyond = lea(4);
    let odd = "lea .Lguards+2(%rip), %rdi";
    let register = "mov %rsi, %rdi";
    for (what, code) in [
        (
            "something between",
            [lea(0).as_str(), "nop", PLT].join("\n"),
        ),
        (
            "not a guard",
            [other, PLT, ".data", "other: .long 0", ".text"].join("\n"),
        ),
        ("behind the guards", [beyond.as_str(), PLT].join("\n")),
        ("in the middle of a guard", [odd, PLT].join("\n")),
        ("any register", [register, PLT].join("\n")),
        (
            "a move of the guard",
            [lea(0).as_str(), "mov %rdi, %rbx", PLT].join("\n"),
        ),
        (
            "a move of another word to where the guard is",
            [lea(0).as_str(), "mov %rbx, %rdi", PLT].join("\n"),
        ),
        (
            "a move from memory",
            [lea(0).as_str(), "mov (%rbx), %rax", PLT].join("\n"),
        ),
        ("a jump between", ["jmp 1f", &lea(0), "1:", PLT].join("\n")),
        (
            "a symbol between",
            [lea(0).as_str(), "between:", PLT].join("\n"),
        ),
        (
            "an address between",
            [&lea(0), "1:", PLT, ".section .rodata", ".quad 1b", ".text"].join("\n"),
        ),
        (
            "a jump from elsewhere",
            [
                &lea(0),
                "1:",
                PLT,
                ".section .text.b,\"ax\"",
                "jmp 1b",
                ".text",
            ]
            .join("\n"),
        ),
        (
            "a call that is tail",
            [lea(0).as_str(), "jmp __sanitizer_cov_trace_pc_guard@PLT"].join("\n"),
        ),
        ("no instruction", [".byte 0xb8", &lea(0), PLT].join("\n")),
    ] {
        let before = made.assemble(&assembly(&code, 4));
        let mut after = before.clone();
        assert_eq!(rewrite(&mut after), counts(0, 1), "{what}");
        assert!(before == with_old_names(after), "{what}");
    }
    // A jump to the beginning of a pair, or to its end, is no jump into it.
    let code = ["1:", &lea(0), PLT, "2:", "jz 1b", "jmp 2b"].join("\n");
    let mut object = made.assemble(&assembly(&code, 4));
    assert_eq!(rewrite(&mut object), counts(1, 0));
}

/// The guards of an object's stores, by the offsets that their relocations have.
fn guards_of(file: &[u8]) -> Vec<u64> {
    let object = object::File::parse(file).unwrap();
    let section = object.section_by_name(".text").unwrap();
    let stores = find(section.data().unwrap(), 0).map(|site| site.at() + 3);
    let relocations: Vec<_> = section.relocations().collect();
    let guard = |operand: u64| {
        let (_, relocation) = relocations.iter().find(|(at, _)| *at == operand).unwrap();
        u64::try_from(relocation.addend() + 5).unwrap()
    };
    stores.map(guard).collect()
}

#[test]
fn a_guard_in_a_register_or_before_a_move_is_stored_into() {
    let made = Made::new();
    let head = "push %rbx\npush %r13\nlea .Lguards+4(%rip), %rbx\nlea .Lguards+8(%rip), %r13\n\
                mov $3, %r12d\n1:";
    let code = [
        "push %r12",
        head,
        "mov %rbx, %rdi",
        PLT,
        "mov %r13, %rdi",
        GOT,
        "mov $7, %eax",
        &lea(3),
        "mov %rax, %r13",
        PLT,
        &lea(4),
        "mov %eax, %ecx",
        GOT,
        "cmp $7, %r13\njne 2f",
        "cmp $7, %ecx\njne 2f",
        &lea(5),
        PLT,
        "2: lea .Lguards+8(%rip), %r13",
        "dec %r12d\njnz 1b",
        "pop %r13\npop %rbx\npop %r12",
    ]
    .join("\n");
    let mut object = made.assemble(&assembly(&code, 6));
    assert_eq!(rewrite(&mut object), counts(5, 0));
    assert_eq!(guards_of(&object), [4, 8, 12, 16, 20]);
    made.write("code.o", &object);
    made.write(
        "main.c",
        "#include <stdio.h>\n\
         extern unsigned guards[6];\n\
         void work(void);\n\
         void __sanitizer_cov_trace_pc_store(unsigned *guard) { *guard = 7; }\n\
         int main(void) { work(); for (int n = 0; n < 6; n++) printf(\"%d\", !!guards[n]); }\n",
    );
    for how in [&["-pie"][..], &["-no-pie"], &["-static"]] {
        made.run("cc", &[&["main.c", "code.o", "-o", "main"], how].concat());
        assert_eq!(made.run("./main", &[]), "011111", "{how:?}");
    }
}

#[test]
fn a_register_is_known_only_if_no_other_way_leads_there() {
    let made = Made::new();
    let first = "lea .Lguards+4(%rip), %rbx";
    let other = "lea .Lguards+8(%rip), %rbx";
    let site = ["mov %rbx, %rdi", PLT].join("\n");
    let pad = |begin: &str| {
        format!(
            ".section .gcc_except_table,\"a\"\n.Ltable: .byte {begin}, 0xff, 1, 2f-1f\n\
             1: .byte 0, 1\n.uleb128 3b-9b\n.byte 0\n2:\n.text"
        )
    };
    let unwinds = "9: .cfi_startproc\n.cfi_lsda 0x1b, .Ltable";
    let table = ".section .rodata\n.Ljumps: .long 3b-.Ljumps, 4b-.Ljumps\n.text";
    let jump = "lea .Ljumps(%rip), %rax\nmovslq 4(%rax), %rcx\nadd %rax, %rcx\njmp *%rcx";
    for (what, code, stores) in [
        ("one way", vec![first, "jz 3f\n3:", &site], 1),
        (
            "two ways with the same",
            vec![first, "jz 3f", first, "3:", &site],
            1,
        ),
        (
            "two ways with others",
            vec![first, "jz 3f", other, "3:", &site],
            0,
        ),
        (
            "a call leaves it alone",
            vec![first, "call other", &site],
            1,
        ),
        (
            "a call that changes it",
            vec![
                "lea .Lguards+4(%rip), %rsi\ncall other\nmov %rsi, %rdi",
                PLT,
            ],
            0,
        ),
        ("part of it changes", vec![first, "mov $1, %bl", &site], 0),
        (
            "behind a call that may not return",
            vec![first, "call other\n3:", &site],
            1,
        ),
        (
            "at a landing pad",
            vec![
                unwinds,
                first,
                "call other\n3:",
                &site,
                ".cfi_endproc",
                &pad("0xff"),
            ],
            0,
        ),
        (
            "where a table of landing pads is not understood",
            vec![
                unwinds,
                first,
                "call other\n3:",
                &site,
                ".cfi_endproc",
                &pad("0x1b"),
            ],
            0,
        ),
        (
            "by a table of jumps",
            vec![first, jump, "3: nop\n4:", &site, table],
            1,
        ),
        (
            "by a table of jumps, with others",
            vec![first, jump, "3:", other, "4:", &site, table],
            0,
        ),
        (
            "by a table whose beginning is not known",
            vec![first, "jmp *%rcx\n3: nop\n4:", &site, table],
            0,
        ),
        (
            "an address that is somewhere",
            vec![first, "3:", &site, ".data\n.quad 3b\n.text"],
            0,
        ),
    ] {
        let before = made.assemble(&assembly(&code.join("\n"), 4));
        let mut after = before.clone();
        assert_eq!(rewrite(&mut after), counts(stores, 1 - stores), "{what}");
        if stores == 0 {
            assert!(before == with_old_names(after), "{what}");
        } else {
            assert_eq!(guards_of(&after), [4], "{what}");
        }
    }
}

#[test]
fn members_of_archives_are_rewritten() {
    let made = Made::new();
    for name in ["first.o", "a-name-that-is-longer-than-its-field.o"] {
        let code = [lea(0).as_str(), PLT].join("\n");
        let object = made.assemble(&assembly(&code, 4).replace("work", &name[..1].repeat(3)));
        made.write(name, object);
    }
    made.write("lib.rmeta", "no object");
    let members = [
        "first.o",
        "lib.rmeta",
        "a-name-that-is-longer-than-its-field.o",
    ];
    for (flags, name) in [("rcs", "fat.a"), ("rcsT", "thin.a")] {
        made.run("ar", &[&[flags, name], &members[..]].concat());
    }
    let thin = fs::read(made.path("thin.a")).unwrap();
    assert!(is_thin(&thin));
    let mut same = thin.clone();
    assert_eq!(rewrite(&mut same), counts(0, 0));
    assert!(same == thin);
    let read = |path: &Path| fs::read(made.path(path.to_str()?)).ok();
    let thick = thicken(&thin, read).unwrap();
    assert_eq!(thicken(&thin, |_| None), None);

    for mut archive in [fs::read(made.path("fat.a")).unwrap(), thick] {
        assert!(has_calls(&archive));
        assert_eq!(rewrite(&mut archive), counts(2, 0));
        made.write("new.a", &archive);
        assert_eq!(
            made.run("ar", &["t", "new.a"]).lines().collect::<Vec<_>>(),
            members
        );
        for member in ["first.o", "a-name-that-is-longer-than-its-field.o"] {
            let mut object = fs::read(made.path(member)).unwrap();
            rewrite(&mut object);
            let found = made.0.path().join("found");
            fs::create_dir_all(&found).unwrap();
            made.run("ar", &["x", "new.a", "--output", "found"]);
            assert!(fs::read(found.join(member)).unwrap() == object, "{member}");
        }
        // The table of symbols leads to the members.
        made.write(
            "main.c",
            "void fff(void); void __sanitizer_cov_trace_pc_store(void) {} int main(void) { fff(); }",
        );
        made.run("cc", &["main.c", "new.a", "-o", "main"]);
    }
}

#[test]
fn a_client_is_known_by_what_it_uses() {
    let made = Made::new();
    let object = |source: &str| {
        made.write("c.c", source);
        made.run("cc", &["-c", "c.c", "-o", "c.o"]);
        fs::read(made.path("c.o")).unwrap()
    };
    assert!(is_client(&object(
        "int rkcov_open(void); int f(void) { return rkcov_open(); }"
    )));
    assert!(is_client(&object(
        "void kcov_remote_start(long); void f(void) { kcov_remote_start(1); }"
    )));
    assert!(is_client(&object("const char name[] = \"rkcov_open\";")));
    assert!(!is_client(&object("int f(void) { return 1; }")));
}

/// An object with pairs and calls of all sorts, a table of jumps and one of landing pads.
fn sample() -> Vec<u8> {
    let code = [
        ".cfi_startproc\n.cfi_lsda 0x1b, .Ltable",
        &lea(0),
        PLT,
        "jz 1f",
        &lea(1),
        GOT,
        "1:",
        &lea(2),
        "nop",
        &lea_and_add(2),
        PLT,
        "lea .Lguards+4(%rip), %rbx\n2:\nmov %rbx, %rdi",
        PLT,
        &lea(1),
        "mov %rax, %r12",
        GOT,
        "jz 2b\nlea .Ljumps(%rip), %rax\njmp *%rcx\n3:\nmov %rbx, %rdi",
        GOT,
        "4: .cfi_endproc",
        ".section .rodata\n.Ljumps: .long 3b-.Ljumps, 2b-.Ljumps",
        ".section .gcc_except_table,\"a\"\n.Ltable: .byte 0xff, 0xff, 1, 6f-5f",
        "5: .byte 0, 1\n.uleb128 4b-work\n.byte 0\n6:\n.text",
    ];
    Made::new().assemble(&assembly(&code.join("\n"), 3))
}

/// What may stand in a function.
#[derive(Clone, Debug)]
enum Piece {
    Pair {
        through: bool,
        added: bool,
    },
    /// A call whose guard was put there before.
    Call,
    Other(&'static str),
    /// A jump to before a piece, or into the middle of a pair.
    Jump {
        to: prop::sample::Index,
        middle: bool,
    },
}

fn piece() -> impl Strategy<Value = Piece> {
    let other = prop::sample::select(vec![
        "nop",
        "mov $0x3d8d48, %eax",
        "lea 4(%rsp), %rdi",
        "call other",
        "movabs $0x151515ffe8e8e8e8, %rax",
        "mov other@GOTPCREL(%rip), %rdi",
        "vaddps %ymm1, %ymm2, %ymm3",
    ]);
    prop_oneof![
        3 => any::<[bool; 2]>().prop_map(|[through, added]| Piece::Pair { through, added }),
        1 => Just(Piece::Call),
        2 => other.prop_map(Piece::Other),
        1 => (any::<prop::sample::Index>(), prop::bool::weighted(0.2))
            .prop_map(|(to, middle)| Piece::Jump { to, middle }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 48,
        ..ProptestConfig::default()
    })]

    /// Every pair that nothing jumps into is rewritten, and nothing else changes.
    #[test]
    fn just_pairs_are_rewritten(pieces in proptest::collection::vec(piece(), 1..24)) {
        let is_pair = |at: usize| matches!(pieces[at], Piece::Pair { .. });
        let mut entered = vec![false; pieces.len()];
        let mut code = String::new();
        let mut expected = counts(0, 0);
        for piece in &pieces {
            if let Piece::Jump { to, middle: true } = piece {
                entered[to.index(pieces.len())] = true;
            }
        }
        for (at, piece) in pieces.iter().enumerate() {
            writeln!(code, ".Lb{at}:").unwrap();
            match piece {
                Piece::Pair { through, added } => {
                    let call = if *through { GOT } else { PLT };
                    let lea = if *added { lea_and_add(at) } else { lea(at) };
                    writeln!(code, "{lea}\n.Lm{at}:\n{call}").unwrap();
                    match entered[at] {
                        true => expected.calls += 1,
                        false => expected.stores += 1,
                    }
                }
                Piece::Call => {
                    writeln!(code, "{}\nnop\n{PLT}", lea(at)).unwrap();
                    expected.calls += 1;
                }
                Piece::Other(instruction) => writeln!(code, "{instruction}").unwrap(),
                Piece::Jump { to, middle } => {
                    let to = to.index(pieces.len());
                    let label = if *middle && is_pair(to) { 'm' } else { 'b' };
                    writeln!(code, "jz .L{label}{to}").unwrap();
                }
            }
        }
        let before = Made::new().assemble(&assembly(&code, pieces.len()));
        let mut after = before.clone();
        prop_assert_eq!(rewrite(&mut after), expected);
        prop_assert_eq!(before.len(), after.len());
        let stores = find(&text(&after), 0).count();
        prop_assert_eq!(stores, expected.stores);
        // Bytes of a store and of two relocations, beside the names.
        let after = with_old_names(after);
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        prop_assert!(changed <= expected.stores * (20 + 24 + 24));
    }
}

/// What may stand in a function whose guards are in registers: 0 is rbx, 1 is r12.
#[derive(Clone, Debug)]
enum Held {
    Load(usize, usize),
    Copy(usize),
    Change(usize),
    Call(usize),
    Other,
    Jump {
        to: prop::sample::Index,
        always: bool,
    },
}

const HOLDERS: [&str; 2] = ["%rbx", "%r12"];

impl Held {
    fn code(&self, len: usize) -> String {
        match self {
            Self::Load(register, guard) => {
                format!("lea .Lguards+{}(%rip), {}", 4 * guard, HOLDERS[*register])
            }
            Self::Copy(to) => format!("mov {}, {}", HOLDERS[1 - to], HOLDERS[*to]),
            Self::Change(register) => format!("pop {}", HOLDERS[*register]),
            Self::Call(register) => format!("mov {}, %rdi\n{PLT}", HOLDERS[*register]),
            Self::Other => "call other".into(),
            Self::Jump { to, always } => {
                let jump = if *always { "jmp" } else { "jz" };
                format!("{jump} .Lb{}", to.index(len))
            }
        }
    }
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        3 => (0..2_usize, 0..3_usize).prop_map(|(register, guard)| Held::Load(register, guard)),
        1 => (0..2_usize).prop_map(Held::Copy),
        1 => (0..2_usize).prop_map(Held::Change),
        4 => (0..2_usize).prop_map(Held::Call),
        1 => Just(Held::Other),
        3 => (any::<prop::sample::Index>(), prop::bool::weighted(0.3))
            .prop_map(|(to, always)| Held::Jump { to, always }),
    ]
}

/// The guard at each call, if it is the same on all ways there: by going all ways.
fn walked(pieces: &[Held]) -> Vec<Option<usize>> {
    let mut seen = std::collections::HashSet::new();
    let mut at_calls = vec![std::collections::HashSet::new(); pieces.len()];
    let mut work = vec![(0, [None; 2])];
    while let Some((at, mut holds)) = work.pop() {
        if at == pieces.len() || !seen.insert((at, holds)) {
            continue;
        }
        let mut behind = true;
        match &pieces[at] {
            Held::Load(register, guard) => holds[*register] = Some(*guard),
            Held::Copy(to) => holds[*to] = holds[1 - to],
            Held::Change(register) => holds[*register] = None,
            Held::Call(register) => {
                at_calls[at].insert(holds[*register]);
            }
            Held::Other => {}
            Held::Jump { to, always } => {
                work.push((to.index(pieces.len()), holds));
                behind = !always;
            }
        }
        if behind {
            work.push((at + 1, holds));
        }
    }
    let one = |guards: &std::collections::HashSet<Option<usize>>| match guards.len() {
        1 => guards.iter().next().copied().flatten(),
        _ => None,
    };
    at_calls.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 128,
        ..ProptestConfig::default()
    })]

    /// A call whose guard is in a register becomes a store if all ways there bring the same guard.
    #[test]
    fn registers_are_known_as_by_going_all_ways(
        pieces in proptest::collection::vec(held(), 1..24),
    ) {
        let mut code = String::new();
        for (at, piece) in pieces.iter().enumerate() {
            writeln!(code, ".Lb{at}:\n{}", piece.code(pieces.len())).unwrap();
        }
        let mut object = Made::new().assemble(&assembly(&code, 3));
        let expected: Vec<u64> = walked(&pieces)
            .into_iter()
            .flatten()
            .map(|guard| 4 * guard as u64)
            .collect();
        let calls = pieces.iter().filter(|piece| matches!(piece, Held::Call(_))).count();
        let stores = expected.len();
        prop_assert_eq!(rewrite(&mut object), counts(stores, calls - stores));
        prop_assert_eq!(guards_of(&object), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an object's bytes are: no panic, and not a byte more or less.
    #[test]
    fn any_object_is_stood(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
    ) {
        thread_local!(static SAMPLE: Vec<u8> = sample());
        let mut object = SAMPLE.with(Clone::clone);
        for (at, byte) in changes {
            let at = at.index(object.len());
            object[at] = byte;
        }
        if is_cut {
            object.truncate(cut.index(object.len()));
        }
        let len = object.len();
        fuzz(&object);
        rewrite(&mut object);
        prop_assert_eq!(object.len(), len);
    }
}
