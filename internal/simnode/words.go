package simnode

import "strings"

// The words sentences are made of. A list is a class of the small grammar in text.go.
var (
	nouns = words(`river boat bridge garden kitchen letter morning window road hill forest market lamp table teacher
		child story question answer machine network server cable island harbour train station winter summer bird
		horse field village tower library page song picture storm cloud mountain valley door house fire stone`)
	adjectives = words(`old small quiet green long bright warm cold slow careful simple strange heavy light narrow wide
		early late clear gentle red blue round patient honest busy empty open hidden familiar`)
	verbs = words(`waits moves sleeps shines runs turns rests grows falls rises returns changes listens works stands
		drifts stops begins ends breathes wanders opens closes leans`)
	peopleVerbs  = words(`like remember visit draw build share watch describe expect carry need mend cross admire forget`)
	people       = words(`people children teachers neighbours sailors gardeners visitors friends farmers readers`)
	prepositions = words(`near behind beside under above along across past before beyond`)
	adverbs      = words(`slowly quietly often gently again today here early together carefully sometimes`)
	openers      = words(`Today Often Sometimes Later Usually First Then Still Perhaps Afterwards`)
	links        = words(`and but because while although so`)
)

// common are frequent words and syllables that a prompt may have; they only make the tokenizer's counts plausible:
// some four characters to a token of English.
var common = words(`a an the of to in is it that was for on are as with his they at be this have from or one had by word
	not what all were we when your can said there use each which she do how their if will up other about out many then
	them these so some her would make him into time has look two more write go see number no way could my than been
	call who its now find down day did get come made may part over new sound take only little work know place year me
	back give most very after thing our just name good sentence man think say great where help through much line right
	too mean any same tell boy follow came want show also around form three set put end does another well large must
	big even such turn here why ask went men read need land different home us move try kind hand again change off play
	spell air away animal point mother world build self earth father system short hello please explain weather sky
	code data text model test list user example function value type key true false null city unit string object integer
	ing er ed tion ly es re th in an on en at nd st te or ti hi as ou it is ar nt ea ne de ra ro li ri io le ve co me
	al ce om ur et us ic no pre con pro com ment able ness ful less ive ation ance ence ity ous ish ward`)

func words(s string) []string { return strings.Fields(s) }
