"""`python -m lora_operator.preview`: one question on stdin, one answer on stdout; see `lora_api.preview`.

Exit code 2 and one line on stderr for a question that cannot be understood.
"""

import sys
from datetime import UTC, datetime

from lora_operator.preview.answer import QuestionError, answer, read_question


def main() -> int:
    """Answer one question."""
    try:
        found = answer(read_question(sys.stdin.buffer.read()), datetime.now(UTC))
    except QuestionError as error:
        print(f"lora_operator.preview: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(found.model_dump_json(by_alias=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
