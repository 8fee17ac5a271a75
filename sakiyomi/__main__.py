"""`sakiyomi VERB NAME --field value`: whatever goes wrong that the user can mend is one line and an exit status.

Exit status: 0, 1 for something to mend, 2 for a command line that cannot be read, 130 for Ctrl-C.
"""

import sys

from sakiyomi.errors import SakiyomiError, unknown


def main(argv: list[str] | None = None) -> int:
    """Run one command; see the top of this file for what it returns."""
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except SakiyomiError as error:
        sys.stderr.write(f"sakiyomi: {' '.join(str(error).split())}\n")
        return error.status
    except KeyboardInterrupt:
        sys.stderr.write("sakiyomi: stopped; what was written before is whole\n")
        return 130


def run(words: list[str]) -> int:
    # Imported here, so that a library that is missing or a Ctrl-C in the seconds it takes is one line, too.
    from sakiyomi.commands import VERBS, help_text

    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(help_text() + "\n")
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    if verb == "demo":
        rest = ["pick-small", *rest]
    if verb == "demo-motion" and (not rest or rest[0].startswith("--")):
        rest = ["generated", *rest]
    if not rest or rest[0].startswith("-"):
        sys.stdout.write(help_text() + "\n")
        return 0 if rest and rest[0] in ("-h", "--help") else 2
    VERBS[verb][0](rest[0], rest[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
