"""Export formats, one file each. A plug-in here is a module with

    EXTRA                                                    the extra it wants installed, or None
    export(student: Path, folder: Path) -> tuple[str, ...]   the names of the files written into `folder`

Raises MissingExtra when the extra's package is not installed, WeightsError for a student that cannot be exported.
"""
