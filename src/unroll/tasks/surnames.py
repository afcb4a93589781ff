"""The language of a surname, letter by letter, after PyTorch's tutorial on classifying names with a character RNN."""

from unroll.tasks import LabelledFolder, Remote, Task

# Lines of each file in the public archive.
ROWS = {
    "Arabic": 2000, "Chinese": 268, "Czech": 519, "Dutch": 297, "English": 3668, "French": 277, "German": 724,
    "Greek": 203, "Irish": 232, "Italian": 709, "Japanese": 991, "Korean": 94, "Polish": 139, "Portuguese": 74,
    "Russian": 9408, "Scottish": 100, "Spanish": 298, "Vietnamese": 73,
}  # fmt: skip
LANGUAGES = tuple(ROWS)

TASK = Task(
    name="surnames",
    title="The language of a surname",
    folder="surnames",
    files=LabelledFolder(folder="names", suffix=".txt"),
    remote=Remote(archive_url="https://download.pytorch.org/tutorial/data.zip", rows=ROWS),
    labels=LANGUAGES,
    label_names=LANGUAGES,
    group_word="different name",
    metric="accuracy",
    id_column="NameId",
    label_column="Language",
)
