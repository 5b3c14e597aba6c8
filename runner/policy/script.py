"""A shell script as a tree of commands, walked in the order in which the shell does things.

tree-sitter-bash says how the script is made up. It takes much for bash that bash takes for something else, so every
piece of text is held against bash's own rules on the way: what stands between the parts of the tree, where words end
(words.py), how lists and pipelines group, and what a here-document holds (heredocs.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from runner.document.words import shown
from runner.policy.arithmetic import COMPARISONS, is_step, read_arithmetic, read_operand
from runner.policy.heredocs import HereDocument, cut_out
from runner.policy.scope import Shell, either
from runner.policy.simple import Folders, Operator, SimpleCommand, Streams
from runner.policy.variables import is_harmless_name
from runner.policy.words import BOUNDARIES, NAME, Stop, Values, Word, WordReader, decoded, literal, made_up

if TYPE_CHECKING:
    from tree_sitter import Language, Node

_DEEPEST = 25
_MOST_VISITS = 20_000


def commands_in(command: str, cwds: Folders) -> tuple[SimpleCommand, ...]:
    """All simple commands of a script that is run in one of the folders, in order. Raises Stop."""
    tree = _Tree.of(command)
    walk = _Walk(tree, cwds, at_call=cwds)
    walk.whole()
    if walk.shell.moves and walk.shell.has_functions:
        # Where a function is called from is not known, once the working directory changes.
        walk = _Walk(tree, cwds, at_call=None)
        walk.whole()
    return tuple(walk.commands)


@dataclass(frozen=True, slots=True)
class _Tree:
    text: str
    """The script with one character for each byte, and without here-documents."""
    written: str
    """The same with them."""
    root: Node
    heredocs: dict[int, HereDocument]

    @classmethod
    def of(cls, command: str) -> _Tree:
        written = command.encode().decode("latin-1")
        return cls.parsed(written, *cut_out(written))

    @classmethod
    def parsed(cls, written: str, text: str, heredocs: dict[int, HereDocument]) -> _Tree:
        # Imported when used: `claw-runner --help` judges no commands.
        from tree_sitter import Parser  # noqa: PLC0415

        source = text.encode("latin-1")
        root = Parser(_bash()).parse(source).root_node  # a new one each time: it is not for several threads
        if root.has_error:
            raise Stop(f"a part that does not parse ({shown(_error(root, source))})")
        return cls(text, written, root, heredocs)

    def of_node(self, node: Node) -> str:
        return decoded(self.text[node.start_byte : node.end_byte])


@cache
def _bash() -> Language:
    import tree_sitter_bash  # noqa: PLC0415
    from tree_sitter import Language  # noqa: PLC0415

    return Language(tree_sitter_bash.language())


def _error(node: Node, source: bytes) -> str:
    """The text of the smallest node that holds the first error."""
    while inner := next((child for child in node.children if child.has_error), None):
        node = inner
    return source[node.start_byte : node.end_byte].decode(errors="replace")[:30] or "its end"


@dataclass(slots=True)
class _Element:
    """One command of a pipeline."""

    node: Node | None
    redirections: list[Node] = field(default_factory=list)
    negated: bool = False


_REDIRECTIONS = ("file_redirect", "herestring_redirect")
_SIMPLE = ("command", "declaration_command", "unset_command", "variable_assignment", "variable_assignments")
_BODIES = ("compound_statement", "subshell", "if_statement", "while_statement", "for_statement", "case_statement")
_STATEMENTS = frozenset(
    (*_SIMPLE, *_BODIES, "list", "pipeline", "negated_command", "redirected_statement", "test_command")
    + ("function_definition", "c_style_for_statement")
)
_NEED_NO_END = frozenset((";", "&", "\n", ";;", ")", "`", "&&", "||", "|", "|&", "comment", *_REDIRECTIONS))
"""What may stand behind a statement that nothing has ended."""
_ON_ONE_LINE = ("list", "pipeline", "negated_command", "redirected_statement")
"""Those in which lines break behind an operator only."""
_OPERATORS = ("&&", "||", "|", "|&")
_TOKENS = frozenset(
    (";", "&", "\n", "(", ")", "{", "}", "`", "$(", "<(", ">(", "do", "done", "while", "until", "else", "if", "then")
    + ("elif", "fi")
)
_GAP = re.compile(r"(?:[ \t\n]|\\\n)*")
_RESERVED = frozenset(
    ("if", "then", "elif", "else", "fi", "do", "done", "case", "esac", "while", "until", "for", "select", "function")
    + ("{", "}", "!", "[[", "]]", "coproc")
)
_KEYWORDS = _RESERVED | {"in"}
_NO_FUNCTIONS = _RESERVED.union(
    (".", ":", "[", "alias", "bg", "bind", "break", "builtin", "caller", "cd", "command", "compgen", "complete"),
    ("continue", "declare", "dirs", "disown", "echo", "enable", "eval", "exec", "exit", "export", "false", "fc", "fg"),
    ("getopts", "hash", "help", "history", "in", "jobs", "kill", "let", "local", "logout", "mapfile", "popd", "printf"),
    ("pushd", "pwd", "read", "readarray", "readonly", "return", "set", "shift", "shopt", "source", "suspend", "test"),
    ("time", "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait"),
)
"""Names that some shells would not look for among the functions."""
_NUMBERS = re.compile(r"(?:\s|-?[0-9]+(?!\S)|\{[0-9]+\.\.[0-9]+\}(?!\S)|\$\(seq [0-9 ]+\))*")
_SUBSTITUTIONS = ("command_substitution", "process_substitution", "arithmetic_expansion")


class _Walk:
    """Goes through the tree of one script. Everything raises Stop.

    A visit leaves the shell as it is when the statement succeeds, and returns the working directories when it fails.
    """

    def __init__(self, tree: _Tree, cwds: Folders, *, at_call: Folders) -> None:
        self.commands: list[SimpleCommand] = []
        self.shell = Shell(cwds, at_call=at_call, splits_at_blanks="IFS" not in tree.text)
        self._tree = tree
        self._text = tree.text
        self._visits = 0
        self._depth = 0
        self._comments: set[tuple[int, int]] = set()
        self._heredocs: set[int] = set()
        self._substituted = 0
        self._both = False
        """There was a `&>` in the list that is being read."""

    def whole(self) -> None:
        root = self._tree.root
        if not (self._is_gap(0, root.start_byte) and self._is_gap(root.end_byte, len(self._text))):
            raise Stop("a part that does not parse")
        self._visit(root)
        for at, document in self._tree.heredocs.items():
            if at not in self._heredocs or document.comment not in self._comments:
                raise Stop("a here-document in an unusual place")
        self.shell.check_arithmetic()
        self.commands = [self._with_numbers(command) for command in self.commands]

    def _with_numbers(self, command: SimpleCommand) -> SimpleCommand:
        """The shell makes one word of a variable that holds a number, and no option."""
        words = tuple(self._as_number(word) if word.splits else word for word in command.words)
        return command if words == command.words else replace(command, words=words)

    def _as_number(self, word: Word) -> Word:
        found = re.fullmatch(rf"\$\{{?({NAME})\}}?", word.text, re.ASCII)
        return replace(word, splits=False, starts_plain=True) if found and self.shell.is_number(found[1]) else word

    # What a reader of words asks.

    def values(self, name: str) -> Values | None:
        return self.shell.values(name)

    def written(self, start: int, end: int) -> str:
        return self._tree.written[start:end]

    def evaluate(self, name: str) -> None:
        self.shell.evaluate(name)

    def substitution(self, at: int) -> int:
        node = self._tree.root.descendant_for_byte_range(at, at + 1)
        while node is not None and not (node.start_byte == at and node.type in _SUBSTITUTIONS):
            node = node.parent
        if node is None:
            raise Stop("a substitution that is not understood")
        if node.type == "arithmetic_expansion":
            self._arithmetic(at + 1, node.end_byte)
        else:
            if self._text[at] == "`" and re.search(r"\\|<<|< ", self._tree.of_node(node)):
                raise Stop("a backslash or a here-document between backquotes; use $(…)")
            self._deeper(lambda: self._subshell(node))
        self._substituted = node.end_byte
        return node.end_byte

    # The parts of a node.

    def _is_gap(self, start: int, end: int) -> bool:
        return start >= end or _GAP.fullmatch(self._text, start, end) is not None

    def _children(self, node: Node) -> Iterator[Node]:
        """All but the comments, held against what may stand between them."""
        end, ended, opened = node.start_byte, True, False
        for child in node.children:
            start = child.start_byte
            if not self._is_gap(end, start):
                raise Stop(f"a part that does not parse ({shown(self._text[end:start][:30])})")
            broken = "\n" in self._text[end:start].replace("\\\n", "") or child.type == "comment"
            if broken and node.type in _ON_ONE_LINE and not opened:
                raise Stop(f"a line break before {shown(self._tree.of_node(child)[:30])}")
            ended = ended or broken or child.type in _NEED_NO_END
            if not ended:
                raise Stop(f"no separator before {shown(self._tree.of_node(child)[:30])}")
            end = child.end_byte
            if child.type == "comment":
                self._comment(child)
                continue
            if not child.is_named and child.type in _KEYWORDS:
                self._keyword(child)
            ended = child.type not in _STATEMENTS
            opened = child.type in _OPERATORS
            yield child
        if not self._is_gap(end, node.end_byte):
            raise Stop("a part that does not parse")

    def _keyword(self, node: Node) -> None:
        start, end = node.start_byte, node.end_byte
        if not {self._text[max(0, start - 1) : start], self._text[end : end + 1]} <= BOUNDARIES:
            raise Stop(f"{node.type!r} within a word")

    def _comment(self, node: Node) -> None:
        start, end = node.start_byte, node.end_byte
        if start and self._text[start - 1] not in " \t\n;&|()":
            raise Stop("a '#' within a word")
        if "\n" in self._text[start:end] or self._text[end : end + 1] not in ("\n", ""):
            raise Stop("an unusual comment")
        self._comments.add((start, end))

    # Statements.

    def _visit(self, node: Node) -> Folders:
        visit = _VISITS.get(node.type)
        if visit is None:
            raise Stop(f"a {node.type.replace('_', ' ')} ({shown(self._tree.of_node(node)[:30])})")
        return self._deeper(lambda: visit(self, node))

    def _deeper(self, visit: Callable[[], Folders]) -> Folders:
        self._visits += 1
        self._depth += 1
        if self._visits > _MOST_VISITS or self._depth > _DEEPEST:
            raise Stop("too many commands within commands")
        failed = visit()
        self._depth -= 1
        return failed

    def _statement(self, node: Node) -> Folders:
        following = node.next_sibling
        if following is not None and following.type == "&":
            return self.shell.apart(lambda: self._and_or(node))
        return self._and_or(node)

    def _next_statement(self, node: Node, failed: Folders) -> Folders:
        """A statement that is run however the one before it ended."""
        self.shell.scope.cwds = either(self.shell.scope.cwds, failed)
        return self._statement(node)

    def _block(self, node: Node) -> Folders:
        """Statements one after the other, between keywords or parentheses."""
        failed = self.shell.scope.cwds
        for child in self._children(node):
            if child.is_named:
                failed = self._next_statement(child, failed)
            elif child.type == "((":
                return self._step(node)
            elif child.type not in _TOKENS:
                raise Stop(shown(child.type))
        return failed

    def _subshell(self, node: Node) -> Folders:
        return self.shell.apart(lambda: self._block(node))

    def _step(self, node: Node) -> Folders:
        if not is_step(self._tree.of_node(node)):
            raise Stop("((…)), which some shells take for a command; use [ … ] or $((…))")
        self._arithmetic(node.start_byte, node.end_byte)
        return self.shell.scope.cwds

    # Lists and pipelines: the tree does not always group them as shells do.

    def _and_or(self, node: Node) -> Folders:
        outer, self._both = self._both, False
        first, begin = len(self.commands), self.shell.scope.cwds
        failed = self._list(node)
        if self._both:
            # `cd x && y &> f` is `cd x && y & > f` to some shells, and its first part a shell of its own.
            for place, command in enumerate(self.commands[first:], start=first):
                self.commands[place] = replace(command, cwds=either(command.cwds, begin))
            failed = self.shell.may_have_been_apart(begin, failed)
        self._both = outer
        return failed

    def _list(self, node: Node) -> Folders:
        failed = self.shell.scope.cwds
        operator, pipeline = "", list[_Element]()
        for item in (*self._flat(node), ""):
            if isinstance(item, _Element):
                pipeline.append(item)
            elif item not in ("|", "|&"):
                failed = self._joined(operator, pipeline, failed)
                operator, pipeline = item, []
        return failed

    def _joined(self, operator: str, pipeline: Sequence[_Element], failed: Folders) -> Folders:
        """A pipeline behind `&&` or `||`, or behind nothing."""
        if not operator:
            return self._pipeline(pipeline)
        before = self.shell.scope.copy()
        if operator == "&&":
            failed = either(failed, self._pipeline(pipeline))
            cwds = self.shell.scope.cwds
        else:
            self.shell.scope.cwds = failed
            failed = self._pipeline(pipeline)
            cwds = either(before.cwds, self.shell.scope.cwds)
        self.shell.scope = before.or_else(self.shell.scope)
        self.shell.scope.cwds = cwds
        return failed

    def _flat(self, node: Node) -> list[_Element | str]:
        """Commands and the operators between them."""
        items: list[_Element | str] = []
        waiting, negated = [node], False
        while waiting:
            part = waiting.pop()
            is_joint = part.type in _OPERATORS
            behind = items[-1] if items and isinstance(items[-1], _Element) else None
            if part.type in _ON_ONE_LINE:
                waiting += reversed(list(self._children(part)))
            elif part.type == "!":
                negated = not negated
            elif part.type in _REDIRECTIONS and behind:
                behind.redirections.append(part)
            elif is_joint == (behind is None) or (is_joint and negated):
                raise Stop(f"a part that does not parse ({shown(self._tree.of_node(node)[:30])})")
            elif is_joint:
                items.append(part.type)
            else:
                element = _Element(None, [part]) if part.type in _REDIRECTIONS else _Element(part)
                element.negated, negated = negated, False
                items.append(element)
        return items

    def _pipeline(self, elements: Sequence[_Element]) -> Folders:
        if len(elements) == 1:
            return self._element(elements[0])
        for element in elements:
            self.shell.apart(lambda element=element: self._element(element))  # type: ignore[misc]
        return self.shell.scope.cwds

    def _element(self, element: _Element) -> Folders:
        node = element.node
        if node is None or node.type in _SIMPLE or (node.type == "test_command" and not self._is_condition(node)):
            failed = self._simple(node, element.redirections)
        else:
            self._redirected(element.redirections)
            failed = self._visit(node)
        if element.negated:
            failed, self.shell.scope.cwds = self.shell.scope.cwds, failed
        return failed

    # Compound commands.

    def _if(self, node: Node) -> Folders:
        """Also `elif … then …`."""
        shell = self.shell
        tested, ends = shell.scope, []
        failed = shell.scope.cwds
        for child in self._children(node):
            if child.type in ("elif_clause", "else_clause"):
                ends.append(shell.scope)
                shell.scope = tested.copy()
                failed = self._visit(child)
            elif child.is_named:
                failed = self._next_statement(child, failed)
            elif child.type not in _TOKENS:
                raise Stop(shown(child.type))
            shell.scope.cwds = failed = either(shell.scope.cwds, failed)
            if child.type == "then":
                tested = shell.scope.copy()
        for end in (*ends, tested):
            shell.scope = shell.scope.or_else(end)
        return shell.scope.cwds

    def _loop(self, visit: Callable[[], Folders]) -> Folders:
        before = len(self.commands)

        def again() -> None:
            del self.commands[before:]

        return self.shell.repeat(visit, again)

    def _while(self, node: Node) -> Folders:
        return self._loop(lambda: self._block(node))

    def _for(self, node: Node) -> Folders:
        children = list(self._children(node))
        name = self._tree.of_node(children[1])
        if children[0].type != "for" or children[1].type != "variable_name" or not is_harmless_name(name):
            raise Stop(f"a loop with {children[0].type!r} over {shown(name)}")
        over = [child for child in children[2:-1] if child.is_named]
        start, end = (over[0].start_byte, over[-1].end_byte) if over else (0, 0)
        values = _values(WordReader(self._text, self).words(start, end))
        number = _NUMBERS.fullmatch(self._text, start, end) is not None and bool(over)

        def body() -> Folders:
            self.shell.set(name, values, number=number)
            return self._visit(children[-1])

        return self._loop(body)

    def _counting_for(self, node: Node) -> Folders:
        """`for ((…; …; …))`."""
        children = list(self._children(node))
        places = {child.type: child for child in children}
        start, end = places["(("].end_byte, places["))"].start_byte
        for part in re.finditer("[^;]+", self._text[start:end]):
            if found := re.match(rf"\s*({NAME})\s*=", part[0], re.ASCII):
                self.shell.set(found[1], None, number=True)
            read_arithmetic(self._text, start + part.start(), start + part.end(), self)
        return self._loop(lambda: self._visit(children[-1]))

    def _case(self, node: Node) -> Folders:
        shell = self.shell
        ends = []
        for child in self._children(node):
            if child.type == "case_item":
                before = shell.scope.copy()
                self._case_item(child)
                ends.append(shell.scope)
                shell.scope = before
            elif child.is_named:
                self._one_word(child)
        for end in ends:
            shell.scope = shell.scope.or_else(end)
        return shell.scope.cwds

    def _case_item(self, node: Node) -> None:
        failed = self.shell.scope.cwds
        in_pattern = True
        for child in self._children(node):
            if child.type in (";&", ";;&"):
                raise Stop(shown(child.type))
            if child.is_named and in_pattern:
                self._one_word(child)
            elif child.is_named:
                failed = self._next_statement(child, failed)
            in_pattern = in_pattern and child.type != ")"
        self.shell.scope.cwds = either(self.shell.scope.cwds, failed)

    def _one_word(self, node: Node) -> None:
        if len(WordReader(self._text, self).words(node.start_byte, node.end_byte)) != 1:
            raise Stop(f"a pattern that is not one word ({shown(self._tree.of_node(node)[:30])})")

    def _function(self, node: Node) -> Folders:
        children = list(self._children(node))
        name = next((self._tree.of_node(child) for child in children if child.type == "word"), "")
        bodies = [child for child in children if child.type in _BODIES]
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII) or name in _NO_FUNCTIONS or len(bodies) != 1:
            raise Stop(f"a function of the name {shown(name)}")

        def body() -> None:
            self._redirected([child for child in children if child.type in _REDIRECTIONS])
            self._visit(bodies[0])

        self.shell.define(name, body)
        return self.shell.scope.cwds

    # Conditions and arithmetic.

    def _is_condition(self, node: Node) -> bool:
        return self._text.startswith("[[", node.start_byte)

    def _condition(self, node: Node) -> Folders:
        """`[[ … ]]`. To some shells it is a command, which ends where `&&` stands."""
        at, end = node.start_byte + 2, node.end_byte - 2
        if self._text[at] not in " \t" or self._text[end - 1] not in " \t":
            raise Stop("a '[[' without blanks around it")
        words: list[Word] = []
        while not self._is_gap(at, end):
            at = re.compile(r"[ \t]*").match(self._text, at).end()  # type: ignore[union-attr]
            if self._text.startswith(("&&", "||"), at):
                words.append(_JOINED)
                at += 2
            else:
                word, at = WordReader(self._text, self).word(at, end)
                words.append(word)
        for place, word in enumerate(words):
            before, behind = words[:place][-1:], words[place + 1 :]
            if word is _JOINED and not _is_no_program(behind):
                raise Stop("a condition that to some shells is two commands; use [ … ] && [ … ]")
            if word.bare and word.text in COMPARISONS:
                for operand in (*before, *behind[:1]):
                    read_operand(operand, self)
            if word.text in ("-v", "-R") and not (behind and re.fullmatch(NAME, behind[0].text, re.ASCII)):
                raise Stop(f"[[ {word.text} … ]], which may run what a text holds")
        return self.shell.scope.cwds

    def _arithmetic(self, start: int, end: int) -> None:
        """From `((` to `))`."""
        if not (self._text.startswith("((", start) and self._text.endswith("))", start, end)):
            raise Stop("arithmetic that is not understood")
        read_arithmetic(self._text, start + 2, end - 2, self)

    # Simple commands.

    def _simple(self, node: Node | None, redirections: Sequence[Node]) -> Folders:
        words: list[Word] = []
        streams = Streams()
        shell, cwds = self.shell, self.shell.scope.cwds
        if node is not None:
            self._forget_assigned(node, redirections)
            at = node.start_byte
            for child in node.children:
                if child.type in _REDIRECTIONS:
                    words += self._words(at, child.start_byte, words, streams)
                    words += self._redirection(child, words, streams)
                    at = child.end_byte
            words += self._words(at, node.end_byte, words, streams)
        for redirection in redirections:
            words += self._redirection(redirection, words, streams)
        program = next((word for word in words if not word.assigns), literal(""))
        if program.bare and program.text in _RESERVED:
            raise Stop(f"{program.text!r}")
        is_function = program.kind == "literal" and program.text in shell.scope.functions
        self.commands.append(SimpleCommand(tuple(words), tuple(streams.files), cwds, is_function, streams.input))
        self._both = self._both or streams.both
        return shell.run(words, is_function=is_function)

    def _forget_assigned(self, node: Node, redirections: Sequence[Node]) -> None:
        """Which of several assignments and redirections comes first is not the same in all shells and commands."""
        assigned = [child for child in node.children if child.type == "variable_assignment"]
        redirected = bool(redirections) or any(child.type in _REDIRECTIONS for child in node.children)
        if node.type == "variable_assignment" and redirected:
            assigned = [node]
        if len(assigned) > 1 or redirected:
            for one in assigned:
                name = re.match(NAME, self._tree.of_node(one), re.ASCII)
                self.shell.forget(name[0] if name else "")

    def _words(self, start: int, end: int, before: Sequence[Word], streams: Streams) -> list[Word]:
        """Those of a piece of a command that begins with the words before."""
        words = WordReader(self._text, self).words(start, end, leading=all(word.assigns for word in before))
        if words and streams.both:
            raise Stop("a word after '&>'")
        return words

    def _redirection(self, node: Node, before: Sequence[Word], streams: Streams) -> list[Word]:
        """Take one in. Returns the words that the tree takes for more of its targets."""
        operator = Operator(self._text, node.start_byte, node.end_byte)
        target, end = WordReader(self._text, self).word(operator.end, node.end_byte)
        if operator.at in self._tree.heredocs:
            streams.give(operator, self._heredoc(operator.at))
        elif operator.text == "<<<":
            streams.give(operator, target)
        elif not (self._text.startswith(("<(", ">("), operator.end) and self._substituted == end):
            streams.open(operator, target)
        return self._words(end, node.end_byte, before, streams)

    def _redirected(self, nodes: Sequence[Node]) -> None:
        """What is not a simple command is redirected."""
        streams = Streams()
        for node in nodes:
            if self._redirection(node, (), streams):
                raise Stop("a word behind a redirection")
        self._both = self._both or streams.both
        if streams.files:
            self.commands.append(SimpleCommand((), tuple(streams.files), self.shell.scope.cwds))

    def _heredoc(self, at: int) -> Word:
        """What a here-document gives to a command."""
        document = self._tree.heredocs[at]
        self._heredocs.add(at)
        body = decoded(document.body)
        if document.quoted or not re.search(r"[$`\\]", body):
            return literal(body)
        # The grammar finds the substitutions in a document that nothing stands beside.
        head = f"cat <<{document.delimiter}\n"
        text = f"{head}{document.body}{document.delimiter}\n"
        inner = _Walk(_Tree.parsed(text, text, {}), None, at_call=None)
        inner.commands, inner.shell = self.commands, self.shell
        WordReader(inner._text, inner).body(len(head), len(head) + len(document.body))
        return made_up(body)


_JOINED = literal("&&")


def _is_no_program(words: Sequence[Word]) -> bool:
    """What stands behind `&&` in a condition is no program to those shells that look for one."""
    texts = [word.text for word in words if word.kind == "literal"][:2]
    return any(re.fullmatch(r"-[a-zA-Z]", text) for text in (texts[1:] if texts[:1] == ["!"] else texts[:1]))


def _values(words: Sequence[Word]) -> Values | None:
    """What a loop over the words puts into its variable."""
    texts: list[str] = []
    for word in words:
        if word.kind == "unknown" and not word.values:
            return None
        texts += word.values or ((word.prefix,) if word.kind == "glob" else (word.text,))
    return Values(tuple(texts), whole=all(word.kind != "glob" for word in words))


_VISITS: dict[str, Callable[[_Walk, Node], Folders]] = {
    "program": _Walk._block,
    "compound_statement": _Walk._block,
    "do_group": _Walk._block,
    "else_clause": _Walk._block,
    "elif_clause": _Walk._if,
    "if_statement": _Walk._if,
    "subshell": _Walk._subshell,
    "while_statement": _Walk._while,
    "for_statement": _Walk._for,
    "c_style_for_statement": _Walk._counting_for,
    "case_statement": _Walk._case,
    "function_definition": _Walk._function,
    "test_command": _Walk._condition,
}
