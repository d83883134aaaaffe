"""Before `make render`, which writes over what is committed: python site/may_render.py PROFILE.

Refused are profiles whose report is no result, and whatever git could not give back afterwards.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("cpu",)  # the one that the notebooks show by default
# what render writes, and the code that it runs: a report is committed beside the code that made it
RESULTS = ("notebooks", "figures", "README.md")
CODE = ("bnat_utils.py", "study", "site", "sweeps.yaml", "Snakefile", "Makefile")


def changed(*words):
    """The paths that a git command names, of this repository. SystemExit: git cannot say."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"render needs git, which gives back what it writes over: {done.stderr.strip()}")
    return [line for line in done.stdout.splitlines() if line]


def refusal(profile):
    """Why a profile may not be rendered now, a sentence, or None."""
    if profile not in PROFILES:
        return (
            f"render takes PROFILE={' or PROFILE='.join(PROFILES)}, got {profile}: it writes over the "
            "committed records, figures, notebooks and README"
        )
    paths = changed("status", "--porcelain", "--", *RESULTS, *CODE)
    # records that are new are what render is for; of those that git has it would write over a change
    paths += [f" M {path}" for path in changed("diff", "--name-only", "--", "records")]
    if paths:
        return (
            "render writes over committed files, so these changes must be committed first (git commit), "
            "put away (git stash) or given up (git checkout); new records may stay as they are:\n"
            + "\n".join(paths)
        )
    return None


if __name__ == "__main__":
    why = refusal(sys.argv[1])
    if why:
        sys.exit(why)
