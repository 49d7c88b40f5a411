// SPDX-License-Identifier: MIT OR Apache-2.0
//! The projects. Each is run twice: by its own tests, and by a tool of it on an input that needs
//! less; what only the tests need must not be reported of the tool.

use crate::choice::Listed;

/// A source package.
#[derive(Debug)]
pub(super) struct Project {
    /// Its name in the archive.
    pub(super) package: &'static str,
    /// Where its build system is, below the package's own folder.
    pub(super) folder: &'static str,
    /// Commands, as its documentation gives them.
    pub(super) build: &'static [&'static str],
    /// Programs of it that are run.
    pub(super) runs: &'static [Run],
}

/// A program that is run, and what is known of that run.
#[derive(Debug)]
pub(super) struct Run {
    /// Of its trace file.
    pub(super) name: &'static str,
    pub(super) command: &'static str,
    /// A file that it reads: its name and what is in it.
    pub(super) input: Option<(&'static str, &'static str)>,
    /// What is reported.
    pub(super) filter: &'static str,
    /// Functions that it cannot do without: the end of a source's path, and a name.
    pub(super) ran: &'static [(&'static str, &'static str)],
    /// Functions that are reported as not having run.
    pub(super) not: &'static [(&'static str, &'static str)],
}

impl Listed for Project {
    const ALL: &'static [Self] = PROJECTS;
    const WHAT: &'static str = "projects";

    fn name(&self) -> &'static str {
        self.package
    }
}

const PROJECTS: &[Project] = &[
    // Autoconf, automake, libtool: a shared and a static library in C.
    Project {
        package: "expat",
        folder: "expat",
        build: &["./buildconf.sh", "./configure", "make -j2"],
        runs: &[
            Run {
                name: "tests",
                command: "make check",
                input: None,
                filter: "lib",
                ran: &[
                    ("lib/xmlparse.c", "doContent"),
                    ("lib/xmlparse.c", "XML_ParserReset"),
                    ("lib/xmlparse.c", "XML_ExternalEntityParserCreate"),
                ],
                // For programs that are built to be told UTF-16.
                not: &[("lib/xmltok.c", "XmlUtf16Encode")],
            },
            Run {
                name: "tool",
                command: "xmlwf/xmlwf rkcov.xml",
                input: Some(("rkcov.xml", "<a b='c'>d<e/></a>\n")),
                filter: "lib",
                ran: &[
                    ("lib/xmlparse.c", "doContent"),
                    ("lib/xmlparse.c", "storeAtts"),
                    ("lib/xmltok_impl.c", "normal_scanEndTag"),
                ],
                not: &[
                    ("lib/xmlparse.c", "XML_ParserReset"),
                    ("lib/xmlparse.c", "XML_ExternalEntityParserCreate"),
                    ("lib/xmlparse.c", "cdataSectionProcessor"),
                    ("lib/xmltok_impl.c", "normal_scanComment"),
                ],
            },
        ],
    },
    // Meson: a library in C, and tables that programs of the build write.
    Project {
        package: "fribidi",
        folder: "",
        build: &["meson setup build", "ninja -C build"],
        runs: &[
            Run {
                name: "tests",
                // A machine that does much else is not the end of a test.
                command: "meson test -C build --timeout-multiplier 20",
                input: None,
                filter: "lib",
                ran: &[
                    ("lib/fribidi-bidi.c", "fribidi_get_par_embedding_levels_ex"),
                    (
                        "lib/fribidi-char-sets-cap-rtl.c",
                        "fribidi_cap_rtl_to_unicode",
                    ),
                    (
                        "lib/fribidi-char-sets-iso8859-8.c",
                        "fribidi_iso8859_8_to_unicode_c",
                    ),
                ],
                not: &[(
                    "lib/fribidi-char-sets-cp1256.c",
                    "fribidi_unicode_to_cp1256_c",
                )],
            },
            Run {
                name: "tool",
                command:
                    "build/bin/fribidi --test --charset CapRTL test/test_CapRTL_explicit.input",
                input: None,
                filter: "lib",
                ran: &[
                    ("lib/fribidi-bidi.c", "fribidi_get_par_embedding_levels_ex"),
                    (
                        "lib/fribidi-char-sets-cap-rtl.c",
                        "fribidi_cap_rtl_to_unicode",
                    ),
                ],
                not: &[(
                    "lib/fribidi-char-sets-iso8859-8.c",
                    "fribidi_iso8859_8_to_unicode_c",
                )],
            },
        ],
    },
    // CMake: a library in C++, and its tests.
    Project {
        package: "libjsoncpp",
        folder: "",
        build: &["cmake -B build", "cmake --build build --parallel 2"],
        runs: &[
            Run {
                name: "tests",
                command: "build/bin/jsoncpp_test",
                input: None,
                filter: "src/lib_json",
                ran: &[
                    ("lib_json/json_reader.cpp", "Json::OurReader::readObject"),
                    ("lib_json/json_reader.cpp", "Json::OurReader::decodeDouble"),
                    ("lib_json/json_value.cpp", "Json::Value::getMemberNames"),
                    ("lib_json/json_writer.cpp", "Json::FastWriter::writeValue"),
                ],
                not: &[(
                    "lib_json/json_reader.cpp",
                    "Json::Reader::getFormatedErrorMessages",
                )],
            },
            Run {
                name: "tool",
                command: "build/bin/jsontestrunner_exe rkcov.json",
                input: Some(("rkcov.json", "{\"a\": [1, true]}\n")),
                filter: "src/lib_json",
                ran: &[
                    ("lib_json/json_reader.cpp", "Json::OurReader::readObject"),
                    ("lib_json/json_writer.cpp", "Json::StyledWriter::writeValue"),
                ],
                not: &[
                    ("lib_json/json_reader.cpp", "Json::OurReader::decodeDouble"),
                    ("lib_json/json_writer.cpp", "Json::FastWriter::writeValue"),
                ],
            },
        ],
    },
];
