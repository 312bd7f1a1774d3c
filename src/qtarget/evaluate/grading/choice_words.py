"""The words by which an answer to multiple choice is stated, in some thirty languages.

Words are small letters here; they are looked for in any case. None of the patterns tries anything twice (`*+`).
"""

import re

RIGHT = (
    r"(?:(?:single|most|only)\s)?(?:correct|right|best|final|true|proper|appropriate|accurate|likely|probable"
    r"|suitable)"
)
ANSWERS = (
    r"answer|ans\.|ans|solution|respuesta|r[ée]ponse|antwort|lösung|risposta|resposta|gabarito|antwoord|odpověď"
    r"|odpoveď"
    r"|ответ|відповідь|отговорът|отговор|одговор|odgovor|cevap|cevabı|yanıt|đáp án|câu trả lời|jawabannya|jawaban"
    r"|jawapan"
    r"|svaret|svar|vastaus|válasz|odpowiedzią|odpowiedź|răspunsul|răspuns|απάντηση|jibu|atsakymas|vastus|atbilde"
)
CHOICES = (
    rf"{RIGHT} (?:option|choice|alternative|response|letter|one)|(?:my|final) (?:choice|option|pick)"
    r"|(?:opción|alternativa|opção|opzione|option) (?:correct[ae]?|corretta|correta|giusta|certa)|bonne option"
    r"|richtige option|richtig|juiste optie|правильный вариант|верный вариант"
)
UNSPACED = (
    r"答案|答え|選択肢(?=は)|正解|解答|回答|正确选项|正確選項|正しい選択肢|정답|해답|답변|답|คำตอบ|उत्तर|जवाब|উত্তর"
    r"|الإجابة|الاجابة|إجابة|الجواب|جواب|پاسخ|התשובה|תשובה|பதில்|సమాధానం"
)
BEHIND = (
    r"correcta|correcte|corretta|giusta|correta|certa|finale?|poprawna|đúng|yang benar|yang tepat|benar|الصحيحة|الصحيح"
    r"|corect|הנכונה|درست|صحیح|choice|option|letter|key"
)
"""Words that stand behind the noun: "respuesta correcta", "answer choice"."""
TO = (
    r"(?:to|for|in|of)\s(?:the|this|your|that)\s(?:(?:above|following|given|whole|first|last)\s)?"
    r"(?:question|problem|case|exercise|quiz)(?:\s\d{1,3})?"
)
LINKS = (
    r"is(?:\sthat)?(?=[\s:*_$(\"'`{\[])|was|would be|should be|must be|has to be|will be|appears to be|seems to be"
    r"|['’]s"
    r"|é a(?=\s[*(]{0,3}[A-Z](?![A-Za-z]))|è la|est la|es la|es|sería|est|serait|ist|lautet|wäre|è|é|seria|to jest"
    r"|jest|je|е|є|là|adalah|är|er|este"
    r"|είναι|ni|az|yra|ir"
    r"|является|هي|هو|है|হল|হলো|היא|הוא|است"
)
LINK_SIGNS = r"::?|=>|=|->|→|⇒|—|–|-(?=\s)|是|为|為|は|が|은|는|คือ|应该是|應該是|应为|选|選|:"
FILLERS = (
    r"(?:definitely|clearly|probably|likely|most likely|therefore|thus|indeed|simply|obviously|hence|actually|still"
    r"|surely|certainly|only|donc|dus|also|entonces|quindi|portanto|então|somit|daher|dunque|alors|a alternativa"
    r"|a opção|undoubtedly|then|just|also|the|option|choice|letter|number|la|le|die|das|el|il|o"
    r"|opción|option"
    r"|opción|lettre|a letra|letra|lettera|buchstabe|alternativa|optie|вариант|буква|выбор|选项|選項|选|選|옵션|선택지"
    r"|ตัวเลือก|विकल्प"
    r"|seçenek|phương án|pilihan|answer)"
)
PICKS = (
    r"\b(?:i|we)(?:['’](?:ll|d|m)|\swill|\swould|\sshall|\sam)?(?:\s(?:therefore|thus|definitely|confidently|going"
    r"|to))*"
    r"\s(?:choose|select|pick|go(?:ing)? with|opt for|answer|answer with|say|guess|vote for|choosing|selecting)"
    r"|\b(?:going|let['’]?s go) with|\bje choisis|\belijo|\bich wähle|\bscelgo|\bescolho|\bвыбираю|\bich nehme"
    r"|(?:因此|所以|故|应|應|我)?(?:选择|選擇|选|選)(?=[\s:*(\"'$]*+[A-Za-z](?![A-Za-z]))"
    r"|\bi (?:think|believe|guess|say|would say|['’]d say),? (?:that )?it(?:['’]s| is| must be| should be)"
)
NO_PICK = re.compile(
    r"\b(?:before|until|unless|why|when|whenever|should|could|can|did|do|would|had|have|once|after|how|lest"
    r"|in case)\s*\Z",
    re.IGNORECASE,
)
"""Before "I say": it is not said yet."""
IT = r"\b(?:it|that)(?:['’]s|\s(?:is|must be|should be|would be|has to be))(?=[\s:*_(]{1,4}[A-Z](?![A-Za-z]))"
"""As in "It is B.", which is a statement where nothing else is."""
THAT_IS = re.compile(
    r"[\s.:)=—–*_,;(-]*+(?:(?:i\.?\s?e\.?|that is|that['’]s|namely|viz\.?|which is|meaning|or rather|a\.?k\.?a\.?"
    r"|in other words"
    r"|specifically|this is|it is|it['’]s)(?!\w)[\s,:*_\"']*+)?+\(?",
    re.IGNORECASE,
)
"""Between an option's letter and its text."""
MARKS = r"[\s*_`\"'$#)\]]*+"
CUE = re.compile(
    rf"(?:(?<![^\W_])(?:(?P<tied>odpowiedź to|vastaus on)|(?P<noun>{CHOICES}|{ANSWERS}))(?![^\W\d_])"
    rf"|(?P<unspaced>{UNSPACED})|(?P<picks>{PICKS})|(?P<it>{IT}))"
    rf"(?:\s(?:{BEHIND})(?!\w))?+(?:,?\s{TO},?)?+(?:,?\s(?:therefore|thus|then|hence|here),?)?+{MARKS}"
    rf"(?P<link>(?:{LINK_SIGNS})|(?:{LINKS})(?!\w))?+{MARKS}(?P<second>(?:is(?!\w)|:|=))?+{MARKS}(?:,\s)?+"
    rf"(?:{FILLERS}(?![^\W_]){MARKS}:?+{MARKS}){{0,3}}+",
    re.IGNORECASE,
)
"""As far as the answer itself: "the correct answer is therefore option", "**Answer:**", "答案是"."""
NOT = re.compile(
    r"(?:definitely|certainly|clearly|probably|simply)?\s*+(?:is|was|can|could|would|should)?\s*+"
    r"(?:n['’]t|not|nicht|no es|n['’]est pas|non è|não é|не)\s(?:be\s)?(?:the\s)?(?:option\s|choice\s)?",
    re.IGNORECASE,
)
BAD = (
    r"(?:wrong|false|incorrect\w*|unlikely|ruled out|excluded|not\s(?:correct|right|it|the\s(?:answer|correct|right"
    r"|best))|falsch"
    r"|incorrecta|incorrecte|sbagliata|errada|неверн\w*|неправильн\w*)\b"
)
BE = (
    r"(?:is|was|are|seems|would be|can be|['’]s|es|est|ist|è|é)\s"
    r"(?:(?:also|clearly|definitely|obviously|therefore|probably)\s)*+"
)
DENIAL = re.compile(
    rf"[^\S\n]*+{BE}(?:{BAD}|(?:not|never)\b)|[^\S\n]*+,?[^\S\n]*+(?:which|that|this|it)\s?{BE}{BAD}"
    rf"|[\s.,;)—–-]*+(?:that|this|it)\s?{BE}{BAD}(?=\s*+(?:[.,;!]|\Z|because\b|since\b))"
    r"|[^\S\n]*+,?[^\S\n]*+(?:(?:which|that|this|it)\s)?+(?:isn['’]t|wasn['’]t|cannot|can['’]t|couldn['’]t|can not)\b"
    rf"|[^\S\n]*+[:(,—–-]\s*+{BAD}"
    r"|\s*+(?:では(?:な|あり)|じゃ(?:な|あり)|[이가]?\s?아[니닙닌]|नहीं|değil|نیست|不对|不正确|不是|是?错|並非)",
    re.IGNORECASE,
)
"""Behind a letter: "is incorrect", ", which is wrong", "ではない"."""
SUBJECT = re.compile(r"[^\S\n]+(?:is|was|isn['’]t|are|es|ist|est|è|é)\b", re.IGNORECASE)
RIGHT_ABROAD = r"(?:richtige?|korrekte?|correct[aeo]|corrett[ao]|giust[ao]|corret[ao]|cert[ao])"
TRUE = re.compile(
    rf"\s+(?:is|was|es|ist|est|è|é)\s(?:(?:indeed|clearly|therefore|thus|definitely|also)\s)?(?:the\s)?(?:{RIGHT}"
    rf"|(?:la\s|die\s|a\s)?{RIGHT_ABROAD})\b",
    re.IGNORECASE,
)
FOLLOWERS = re.compile(
    r"(?:because|since|as|which|due|owing|given that|given the|according|based|considering|in|for|by|from|on|at"
    r"|with|when"
    r"|where|while|whereas|so|therefore|thus|hence|and|not|but|rather|instead|only|here|per|via|through|after"
    r"|before|it"
    r"|this|the|these|they|porque|ya que|pues|puesto|car|parce|puisque|weil|da|denn|perché|poiché|pois|omdat|want"
    r"|ponieważ"
    r"|bo|protože|потому|так как|поскольку|çünkü|vì|karena|fordi|olduğu|dır|dir|是)\b"
    r"|['’]d[iıuüa]r|です|だ[。！!\s]|だ$|である|になり|となり|でし|と考|입니다|이다|예요|이에요|번|임|因|项|項|选项|選項|和|而|ครับ|ค่ะ|เพราะ|正确|正しい|है"
    r"|درست|است|।",
    re.IGNORECASE,
)
"""Words that go on behind a letter. Any other word may make the letter part of a name: "B cells", "A common one"."""
NONE = re.compile(
    r"(?:none|neither|unclear|unknown|unsure|undetermined|indeterminate|impossible|not (?:listed|given|clear|known"
    r"|among|here))\b",
    re.IGNORECASE,
)
CONDITION = re.compile(
    r"\b(?:if|unless|suppos\w+|assum(?:e|ing)|whether|imagine|hypothetically|pretend|wenn|falls|если)\b"
    r"|如果|假设|假如|もし|만약|是否|若",
    re.IGNORECASE,
)
CLAUSE = re.compile(r"[,;:—–(]|\b(?:so|therefore|thus|hence|then|but|and|because|since)\b", re.IGNORECASE)
HEDGES = re.compile(
    r"\b(?:not|\w+n['’]t|never|no|wrong|incorrect\w*|false|worst|least|common|popular|previous|earlier|first"
    r"|initial|student\w*"
    r"|others?|another|second|alternative|tempting|possible|might|may|could|some|many|people|thinks|thought|claims?"
    r"|says|said|used to|believed|impossible|inconceivable|(?:trap|runner-up|distractor|old|outdated|superficial"
    r"|rejected|eliminated|discarded|excluded|next best)(?=\s*\Z)"
    r"|believes|doubt|unlikely|example|sample|format|template|respond with|reply with|answer with|write|opposite"
    r"|instead of|rather than|before i|when i|mistake|naive|user\w*|his|her|their|nicht|kein\w*|non"
    r"|pas|nie|не|nem|ikke|inte|bukan|tidak|không|falsch\w*|incorrecta?|неправильн\w*|неверн\w*|mauvaise|fausse"
    r"|sbagliata"
    r"|errada|yanlış|salah|verkeerde|błędna|fel|forkert|feil)\b|错误|錯誤|不正确|間違|不|未|别|勿|并非|誤|틀린|오답",
    re.IGNORECASE,
)
"""In the clause before the cue, they make it no statement of the model's own: "the wrong answer is", "it says that"."""
SOFT = re.compile(
    r"\b(?:your|obvious|intuitive|usual|expected|original|given|chosen|selected|predicted|submitted|typical|simple|easy)"
    r"\s*\Z",
    re.IGNORECASE,
)
FIRM = re.compile(r"\b(?:correct|right|true|actual|real)\s\w+\W[^.\n]*\Z", re.IGNORECASE)
"""Before an answer: it is somebody's or what one expects; or it is the right one."""
SURE = re.compile(r"\b(?:no doubt|without (?:a |any )?doubt|best possible|not only|no other)\b", re.IGNORECASE)
NOUN_ABROAD = r"(?:antwort|option|lösung|respuesta|opción|réponse|risposta|opzione|resposta|opção)"
CALLED = re.compile(
    rf"(?:\s(?:is|was|['’]s|would be|should be|must be)\s(?:(?:indeed|clearly|therefore|thus|definitely|actually"
    rf"|obviously)\s)*+"
    rf"(?:(?P<strong>(?:the\s)?{RIGHT}\s(?:answer|option|choice|one|response|alternative)|the\s(?:answer|{RIGHT}))"
    rf"|(?:correct|right))"
    rf"|\s(?:es|ist|est|è|é)\s(?:(?:la|die|a)\s)?(?:{NOUN_ABROAD}\s)?{RIGHT_ABROAD}(?:\s{NOUN_ABROAD})?)"
    r"(?=[\s)*_\"'$]*+(?:[.,;!)]|$|\n|—|–|(?:because|since|as|for|here|in this|due|to this)\b))",
    re.IGNORECASE | re.MULTILINE,
)
"""As in "Option B is the correct answer", or, weakly, "B is correct" and "Option B ist richtig"."""
LEAD = re.compile(
    r"^(?:[\s*_#>-]|\b(?:so|thus|therefore|hence|then|and|clearly|i think|i believe|we conclude|i conclude|that"
    r"|only|overall|in conclusion"
    r"|now|here|consequently|finally|but)\b)*+",
    re.IGNORECASE,
)
